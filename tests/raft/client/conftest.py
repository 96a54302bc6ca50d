"""What the tests of the client share."""

import pytest

from tests.raft.client.frames import leader
from tests.raft.client.sessions import Client


@pytest.fixture
def client() -> Client:
    """A client with session 7, and nothing on its way."""
    made = Client()
    made.hear(leader())
    made.register()
    assert made.frames() == []
    return made
