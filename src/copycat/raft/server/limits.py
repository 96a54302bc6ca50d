"""What a server takes from its clients before it says no."""

from dataclasses import dataclass

from copycat.errors import ConfigurationError

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """Sizes in bytes, times in milliseconds. Raises ConfigurationError for a limit that is not positive.

    max_block_bytes: a turn's commands are cut into blocks of about this size; a larger batch makes a block alone.
    max_batch_bytes: the most one client sends as a batch: its largest command, or many small ones.
    max_pending_bytes: commands that wait for the disk; beyond, clients are told to come back later.
    max_held_bytes: frames that came before this leader was ready, or before it knew that it leads.
    max_waiting_queries: queries that wait for a state to be reached.
    session_timeout_ms_min, session_timeout_ms_max: what a client may ask for.
    """

    max_block_bytes: int = 256 << 10
    max_batch_bytes: int = MEBIBYTE + 4096
    max_pending_bytes: int = 64 * MEBIBYTE
    max_held_bytes: int = 16 * MEBIBYTE
    max_waiting_queries: int = 100_000
    session_timeout_ms_min: int = 100
    session_timeout_ms_max: int = 3_600_000

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ConfigurationError(f"{name} must be positive, not {getattr(self, name)}")
        if self.session_timeout_ms_min > self.session_timeout_ms_max:
            raise ConfigurationError(
                f"session_timeout_ms_min ({self.session_timeout_ms_min}) exceeds session_timeout_ms_max "
                f"({self.session_timeout_ms_max})"
            )
