"""Every error Copycat raises, in one tree whose branches answer: what may I do now?

    CopycatError
    ├── RetryableError            try again; nothing happened
    │   ├── NoLeaderError
    │   ├── ConnectError          (also ConnectionError)
    │   ├── QueryTimeoutError     (also TimeoutError)
    │   ├── OverloadedError
    │   └── LockTimeoutError      (also TimeoutError)
    ├── IndeterminateError        it may or may not have happened; look before repeating
    │   └── CommandTimeoutError   (also TimeoutError)
    ├── SessionError              start over: the session is gone
    │   ├── SessionExpiredError
    │   ├── ClosedError
    │   └── LostError
    │       ├── LockLostError
    │       └── LeadershipLostError
    ├── UsageError                fix my code or my configuration
    │   ├── ConfigurationError    (also ValueError)
    │   ├── SerializationError    (also TypeError)
    │   │   ├── DecodeError
    │   │   └── RegistrationError
    │   ├── SnapshotError
    │   ├── TooLargeError         (also ValueError)
    │   ├── ResourceError
    │   │   ├── UnknownResourceError (also LookupError)
    │   │   ├── ResourceTypeError    (also TypeError)
    │   │   └── UnknownResourceTypeError
    │   ├── NotHeldError
    │   ├── ForkedError
    │   └── ThreadError
    ├── ApplicationError          the state machine raised; the command was applied with that result
    ├── TransportError            the wire: refused or broken by the peer
    │   ├── ProtocolError         bytes that are not Copycat's
    │   └── HandshakeError        another cluster, another incarnation, a removed id
    ├── StorageError              call someone: the disk or its contents
    │   ├── CorruptionError
    │   ├── DirectoryInUseError
    │   ├── ForeignDirectoryError
    │   └── LogError
    └── InvariantError            a bug in Copycat: the member has stopped itself
        └── DivergenceError       or in a state machine: its state is not that of the other members

Every error carries `outcome`: whether the operation it speaks of took effect.

Source: STYLE.md "Errors".
"""

import enum
from typing import Any, ClassVar


class Outcome(enum.Enum):
    """Whether the operation took effect: the one thing a caller must know before repeating it."""

    NOT_APPLIED = "not applied"
    APPLIED = "applied"
    UNKNOWN = "unknown"


class CopycatError(Exception):
    """The root of the tree. `outcome` is NOT_APPLIED unless a subclass or the raiser says otherwise."""

    default_outcome: ClassVar[Outcome] = Outcome.NOT_APPLIED

    def __init__(self, message: str = "", *, outcome: Outcome | None = None) -> None:
        super().__init__(message)
        self.outcome = self.default_outcome if outcome is None else outcome


class RetryableError(CopycatError):
    """Nothing happened; the same call may succeed later."""


class NoLeaderError(RetryableError):
    """No leader could be reached; a majority of the members is needed."""


class ConnectError(RetryableError, ConnectionError):
    """No server answered. `tried` maps each address to why it failed."""

    def __init__(self, message: str = "", *, tried: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.tried: dict[str, str] = dict(tried or {})


class QueryTimeoutError(RetryableError, TimeoutError):
    """A query found no answer in time. Queries change nothing, so it is safe to repeat."""


class OverloadedError(RetryableError):
    """Refused before it was appended, because a limit was reached: on work in flight, or on room on a disk."""


class LockTimeoutError(RetryableError, TimeoutError):
    """The lock was not granted in time. The request was withdrawn, so nothing is held for it."""


class IndeterminateError(CopycatError):
    """The command was sent and its outcome cannot be known: read before repeating."""

    default_outcome = Outcome.UNKNOWN


class CommandTimeoutError(IndeterminateError, TimeoutError):
    """A command found no answer in time. The session still sees it through exactly once.

    `operation` is the future of the command itself: `await error.operation` waits on.
    """

    def __init__(self, message: str = "", *, operation: Any = None) -> None:
        super().__init__(message)
        self.operation = operation


class SessionError(CopycatError):
    """The session is gone; open a new one."""


class SessionExpiredError(SessionError):
    """The cluster ended the session because it heard nothing from it for the session timeout."""


class ClosedError(SessionError, RuntimeError):
    """Used before `open()` or after `close()`."""


class LostError(SessionError):
    """What was held ended with its session, or may have: another may hold it now. `token` is what it was held by."""

    default_outcome = Outcome.UNKNOWN

    def __init__(self, message: str = "", *, token: int = 0) -> None:
        super().__init__(message)
        self.token = token


class LockLostError(LostError):
    """The lock is held no longer; what its holder did last may have happened after another was granted it."""


class LeadershipLostError(LostError):
    """The leadership is over; what the leader did last may have happened after another was elected."""


class UsageError(CopycatError):
    """The call or the configuration is wrong; repeating it cannot help."""


class ConfigurationError(UsageError, ValueError):
    """A setting is missing, out of range, or contradicts another."""


class SerializationError(UsageError, TypeError):
    """A value cannot be encoded."""


class DecodeError(SerializationError):
    """Bytes do not decode as the expected type."""


class RegistrationError(SerializationError):
    """A type or an id is registered twice, or the id is reserved."""


class SnapshotError(UsageError):
    """The state of a state machine cannot be put into a snapshot, or not be restored from one."""


class TooLargeError(UsageError, ValueError):
    """A key, value, entry or frame exceeds its limit. `size_bytes` and `limit_bytes` say by how much."""

    def __init__(
        self, message: str = "", *, size_bytes: int = 0, limit_bytes: int = 0, outcome: Outcome | None = None
    ) -> None:
        super().__init__(message, outcome=outcome)
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class ResourceError(UsageError):
    """A path or a resource is not what the caller took it for."""


class UnknownResourceError(ResourceError, LookupError):
    """No resource is registered at the path, or it has been deleted."""


class ResourceTypeError(ResourceError, TypeError):
    """The path holds a resource of another type."""


class UnknownResourceTypeError(ResourceError):
    """A server does not allow this resource type."""


class NotHeldError(UsageError, RuntimeError):
    """A lock or a leadership was to be given up by a handle that does not have it."""


class ForkedError(UsageError, RuntimeError):
    """A handle opened in one process was used in its child."""


class ThreadError(UsageError, RuntimeError):
    """A handle was used from a thread that is not its event loop's."""


class ApplicationError(CopycatError):
    """The state machine raised; every replica recorded this as the command's result.

    `kind` is the class name of the exception raised on the servers.
    """

    default_outcome = Outcome.APPLIED

    def __init__(self, message: str = "", *, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class TransportError(CopycatError, ConnectionError):
    """A connection failed or was refused."""


class ProtocolError(TransportError):
    """The peer sent bytes that are not a valid Copycat frame or message."""


class HandshakeError(TransportError):
    """The peer is of another cluster, incarnation or protocol version, or was removed."""


class StorageError(CopycatError):
    """The disk, or what is on it, needs a person."""


class CorruptionError(StorageError):
    """Bytes once known durable do not verify. Nothing was truncated."""


class DirectoryInUseError(StorageError):
    """Another process has the data directory open."""


class ForeignDirectoryError(StorageError):
    """The data directory belongs to another cluster, member or format."""


class LogError(StorageError):
    """The log was used against its contract, such as an append out of order."""


class InvariantError(CopycatError):
    """A truth the code relies on does not hold; the member stops rather than go on."""

    default_outcome = Outcome.UNKNOWN


class DivergenceError(InvariantError):
    """Members that applied the same log hold different states; this one has stopped itself.

    index: where in the log. differences: by name of the resource, the hash of this member's state and that of the
    majority's, "" for one that has no such resource; empty when no majority agrees. dump: where this member's state
    lies to be looked at, "" for nowhere.
    """

    def __init__(
        self,
        message: str = "",
        *,
        index: int = 0,
        differences: dict[str, tuple[str, str]] | None = None,
        dump: str = "",
    ) -> None:
        super().__init__(message)
        self.index = index
        self.differences = dict(differences or {})
        self.dump = dump


def check(condition: object, message: str, *details: object) -> None:
    """Raise InvariantError unless `condition` holds. Unlike `assert` it survives `python -O`.

    `details` are formatted only on failure. For truths about our own code, never for input.
    Source: reliability §5 (54).
    """
    if not condition:
        raise broken(message, *details)


def broken(message: str, *details: object) -> InvariantError:
    """What `check` raises; for the few checks that every turn makes, where even a call that finds nothing costs."""
    return InvariantError(" ".join([message, *map(repr, details)]))
