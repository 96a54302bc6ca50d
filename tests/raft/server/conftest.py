"""What several tests of servers arrange alike."""

import pytest

from copycat.raft.server import flusher


@pytest.fixture
def disk_is_never_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy this machine is: else flushes would go beside the loop."""
    for limit in ("STALL_SECONDS", "INLINE_SECONDS_MAX"):
        monkeypatch.setattr(flusher, limit, 60.0)
