"""What the arguments of a server come to."""

from collections.abc import Callable

from copycat.errors import ConfigurationError
from copycat.raft.machine.single import SingleMachine
from copycat.raft.protocol.members import Member
from copycat.raft.protocol.state_machine import StateMachine
from copycat.raft.server.executors import MakeMachines
from copycat.util.address import Address

CHECK_SECONDS_MIN, CHECK_SECONDS_MAX = 0.05, 366 * 86400


def machines_given(machine: Callable[[], StateMachine] | None, machines: MakeMachines | None) -> MakeMachines:
    """Either of the two, as what makes them all. Raises ConfigurationError."""
    if machines is not None and machine is None:
        return machines
    if machine is None or machines is not None:
        raise ConfigurationError("a server needs a state machine: give either machine= or machines=")
    return lambda clockwork, codec: SingleMachine(machine(), clockwork, codec)


def milliseconds_between_checks(seconds: float) -> int:
    """Raises ConfigurationError."""
    if not (seconds == 0 or CHECK_SECONDS_MIN <= seconds <= CHECK_SECONDS_MAX):
        raise ConfigurationError(
            f"check_interval is {seconds!r}; it must be {CHECK_SECONDS_MIN} to {CHECK_SECONDS_MAX} seconds, or 0: never"
        )
    return round(seconds * 1000)


def listen_address(member: Member, listen: str | Address | None) -> Address:
    """Never a name that may not resolve yet (protocol §2.7)."""
    if isinstance(listen, Address):
        return listen
    if listen is not None:
        return Address.parse(listen)
    advertised = Address(member.host, member.port)
    literal = advertised.is_loopback or all(letter in "0123456789.:" for letter in member.host) or ":" in member.host
    return advertised if literal else Address("0.0.0.0", member.port)
