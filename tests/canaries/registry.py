"""All canaries, and how to find one by its name."""

from tests.canaries.canary import Canary, CanaryError
from tests.canaries.collections import COLLECTIONS
from tests.canaries.consensus import CONSENSUS
from tests.canaries.duties import DUTIES
from tests.canaries.leadership import LEADERSHIP
from tests.canaries.life import LIFE
from tests.canaries.resources import RESOURCES
from tests.canaries.sessions import SESSIONS
from tests.canaries.storage import STORAGE

CANARIES: tuple[Canary, ...] = (*CONSENSUS, *LEADERSHIP, *DUTIES, *LIFE, *STORAGE, *SESSIONS, *RESOURCES, *COLLECTIONS)


def by_name(name: str) -> Canary:
    """The canary of this name. Raises CanaryError."""
    found = next((canary for canary in CANARIES if canary.name == name), None)
    if found is None:
        raise CanaryError(f"there is no canary {name!r}")
    return found
