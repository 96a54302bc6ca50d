"""What a fault is: how one is written down, from what it is drawn, and of which kind it may be.

Drawing and doing are apart. What was drawn is an `Action`: names, numbers and times, which can be written down, done
again, and left out. So drawing touches nothing, and doing draws nothing and finds a cluster in any state: members that
are down already, others that are up, or that have left.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from copycat.testing.cluster import SimulatedCluster

DIGITS = 3  # of what is drawn: a script is read by people

Value = str | float | tuple[str, ...]
"""Of an argument: a host, a number, or some hosts."""
Arguments = Mapping[str, Value]
End = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """This fault (a key of FAULTS) begins `at`, with these arguments, and ends at `until`; None: by itself, or never.

    Times in seconds since the start of the simulation.
    """

    at: float
    fault: str
    arguments: Arguments
    until: float | None = None


class Chance:
    """What the arguments of a fault are drawn from: luck, and the cluster as it is. length: of a fault, at most."""

    def __init__(self, cluster: SimulatedCluster, chooser: Random, length: float) -> None:
        self.cluster = cluster
        self.chooser = chooser
        self.length = length

    def member(self) -> str:
        """One of the members, the leader rather than another."""
        if self.chooser.random() < 0.4:
            return self.cluster.leader()
        return self.chooser.choice(self.names)

    @property
    def names(self) -> list[str]:
        """Of all members that have not left."""
        return [name for name, node in self.cluster.nodes.items() if not node.has_left]

    def members(self) -> tuple[str, ...]:
        """One member, mostly; else several, or all."""
        names = self.names
        count = self.chooser.choice((1, 1, 1, 1, 2, len(names)))
        return (self.member(),) if count == 1 else tuple(self.chooser.sample(names, min(count, len(names))))

    def spare_member(self) -> str | None:
        """One whose disk may be lost: the others are a majority without it."""
        name = self.member()
        return name if self.cluster.membership.may_lose(name) else None

    def client(self, *, of: int = 1) -> str | None:
        """A client that lives, if at least so many do."""
        alive = [name for name, host in self.cluster.hosts.items() if not host.is_dead]
        return self.chooser.choice(alive) if len(alive) >= of else None

    def hosts(self) -> list[str]:
        """All, in any order."""
        names = [*self.names, *self.cluster.hosts]
        self.chooser.shuffle(names)
        return names

    def seconds(self, low: float, high: float) -> float:
        """Or any other number between them."""
        return round(self.chooser.uniform(low, high), DIGITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A kind of fault.

    draw: arguments for `begin`, or None when it cannot be now. begin(cluster, **arguments): do it, and return what ends
    it. takes: the arguments it has. lasts: whether it has an end. loses_disk: that of its `member`, for good.
    """

    draw: Callable[[Chance], Arguments | None]
    begin: Callable[..., End | None]
    takes: tuple[str, ...]
    lasts: bool = True
    loses_disk: bool = False
