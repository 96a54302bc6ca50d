"""The settings of consensus."""

from dataclasses import dataclass

from copycat.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftConfig:
    """Times in milliseconds, sizes in bytes. Raises ConfigurationError when the times contradict each other.

    election_timeout_ms: a follower campaigns after a random 1 to 2 times this without its leader; a leader that
        hears no majority for this long steps down. Too small for the network or the disk: needless elections.
    heartbeat_ms: how often an idle leader speaks.
    lease_ms: the promise asked of followers, more than two heartbeats and less than the election timeout.
    notice_ms: how long a leader that has just committed waits for blocks to send the commit index with, unless a client
        elsewhere waits for it. 0: never; each commit is then a frame more, and a turn more for every follower.
    inflight_bytes_max: what may be on the way to one member before its answers come back.
    append_bytes_max: the most one append carries; a larger block still goes alone.
    install_bytes_max: the most one piece of a snapshot carries. Large enough for the disk, small enough to leave room
        for heartbeats on a slow link.
    """

    election_timeout_ms: int = 500
    heartbeat_ms: int = 100
    lease_ms: int = 250
    notice_ms: int = 2
    inflight_bytes_max: int = 8 << 20
    append_bytes_max: int = 1 << 20
    install_bytes_max: int = 256 << 10

    def __post_init__(self) -> None:
        if not 0 < self.heartbeat_ms < self.election_timeout_ms:
            raise ConfigurationError(
                f"the heartbeat ({self.heartbeat_ms} ms) must be positive and below the election timeout "
                f"({self.election_timeout_ms} ms)"
            )
        if not 2 * self.heartbeat_ms < self.lease_ms < self.election_timeout_ms:
            raise ConfigurationError(
                f"the lease ({self.lease_ms} ms) must be more than two heartbeats ({2 * self.heartbeat_ms} ms) and "
                f"less than the election timeout ({self.election_timeout_ms} ms)"
            )
        if self.notice_ms < 0:
            raise ConfigurationError(f"notice_ms must be 0 or more, not {self.notice_ms}")
        if min(self.inflight_bytes_max, self.append_bytes_max, self.install_bytes_max) <= 0:
            raise ConfigurationError("inflight_bytes_max, append_bytes_max and install_bytes_max must be positive")

    @property
    def freshness_ms(self) -> int:
        """How old a follower's knowledge of the commit index may be when it answers a SERIALIZABLE read."""
        return 2 * self.heartbeat_ms
