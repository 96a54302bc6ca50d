"""What befalls a chaos run, when, and how it is done: a plan drawn from a seed, and the nemesis that carries it out.

A plan is data: it does not know how the run goes, so that the same seed brings the same faults. Who is hit is named, or
is LEADER, whoever that is when the time has come. Faults may overlap; each ends, at the latest when `heal` is called.
"""

import asyncio
import resource
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, Final, Protocol

from copycat.testing.chaos.proxy import Direction, Link
from copycat.testing.chaos.servers import ChaosServers, client_name, why_no_strace
from copycat.testing.recorder import Recorder

LEADER: Final = "leader"
LONGEST = 6.0  # of a fault, in seconds; longer than the sessions of clients
BURY_SECONDS = 0.1  # between two looks for members that have ended
END_SECONDS = 0.3  # for a member whose disk has just failed to end

End = Callable[[], Awaitable[object] | object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """From `begins` to `ends`, in seconds of the run, something of a `kind` (a key of KINDS) happens, namely `what`.

    whom: members or clients, or LEADER. amount: how bad it is, from 0 to 1; what that means is up to `what`.
    """

    kind: str
    what: str
    begins: float
    ends: float
    whom: tuple[str, ...]
    amount: float


class Clients(Protocol):
    """What a nemesis does to client processes."""

    def kill(self, slot: int) -> None: ...
    async def restart(self, slot: int) -> None: ...
    def pause(self, slot: int) -> None: ...
    def resume(self, slot: int) -> None: ...


KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "kill": ("one", "one", "leader", "leader", "all"),
    "pause": ("one", "leader", "leader"),
    "partition": ("leader", "leader with clients", "leader with clients", "halves", "one way", "bridge"),
    "network": ("slow", "narrow", "stall", "cut", "drop", "forget", "corrupt"),
    "disk": ("full", "sync error", "slow sync"),
    "clock": ("jump",),
    "client": ("kill", "pause"),
}
"""Every kind of fault, and what it is, as often as it is to be drawn."""


def impossible(kinds: Sequence[str], why_no_clock: str | None = None) -> dict[str, str]:
    """Which of these kinds of faults, or what of them, cannot be done on this machine, and why.

    why_no_clock: why wall clocks cannot be shifted, if they cannot.
    """
    found = {}
    if "clock" in kinds and why_no_clock is not None:
        found["clock"] = why_no_clock
    if "disk" in kinds:
        if not hasattr(resource, "prlimit"):
            found["disk: full"] = "this system has no prlimit, which makes files unable to grow"
        no_strace = why_no_strace()
        if no_strace is not None:
            found["disk: sync error"] = found["disk: slow sync"] = no_strace
        if "disk: full" in found and no_strace is not None:
            found["disk"] = "nothing of it is possible here"
    return found


def draw_plan(
    seed: int,
    seconds: float,
    kinds: Sequence[str],
    members: Sequence[str],
    clients: int,
    *,
    without: Mapping[str, str] | None = None,
) -> list[Fault]:
    """The faults of a run, by when they begin. without: what `impossible` found.

    Every kind comes once before any comes again, and so does everything of a kind; about one begins every two seconds.
    """
    without = without or {}
    chooser = Random(f"{seed}/plan")
    possible = [kind for kind in kinds if kind not in without]
    plan: list[Fault] = []
    waiting: list[str] = []
    left: dict[str, list[str]] = {kind: [] for kind in possible}
    now = chooser.uniform(0.5, 1.5)
    while possible and now < seconds - 0.5:
        if not waiting:
            waiting = chooser.sample(possible, len(possible))
        kind = waiting.pop()
        if not left[kind]:
            choices = [what for what in KINDS[kind] if f"{kind}: {what}" not in without]
            left[kind] = chooser.sample(choices, len(choices))
        what = left[kind].pop()
        length = chooser.choice((chooser.uniform(0.2, 1.5), chooser.uniform(1.0, LONGEST)))
        plan.append(
            Fault(
                kind=kind,
                what=what,
                begins=round(now, 3),
                ends=round(min(seconds, now + length), 3),
                whom=_whom(kind, what, chooser, members, clients),
                amount=round(chooser.random(), 3),
            )
        )
        now += chooser.expovariate(1 / 2.0)
    return plan


def _whom(kind: str, what: str, chooser: Random, members: Sequence[str], clients: int) -> tuple[str, ...]:
    names = [client_name(slot) for slot in range(clients)]
    if kind == "client":
        return (chooser.choice(names),)
    if kind == "network":
        source = chooser.choice([*members, *names])
        return source, chooser.choice([name for name in members if name != source] or list(members))
    if what == "all":
        return tuple(members)
    if what.startswith("leader"):
        return (LEADER,)
    if kind == "partition":
        return tuple(chooser.sample([*members, *names], len(members) + clients))
    return (chooser.choice([LEADER, *members]),)


class Nemesis:
    """Carries out a plan. `run` until its end, then `heal`; what was done is in the recorder, and counted in `done`."""

    def __init__(
        self,
        servers: ChaosServers,
        clients: Clients,
        recorder: Recorder,
        leader: Callable[[], str | None],
    ) -> None:
        self.done: Counter[str] = Counter()  # by kind and what
        self._servers = servers
        self._clients = clients
        self._recorder = recorder
        self._leader = leader

    async def run(self, plan: Sequence[Fault]) -> None:
        """All of it, in time; returns at the end of the last fault."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        turns: list[tuple[float, int, bool]] = []
        for number, fault in enumerate(plan):
            turns += [(fault.begins, number, True), (fault.ends, number, False)]
        ends: dict[int, End] = {}
        for at, number, is_begin in sorted(turns):
            while (rest := began + at - loop.time()) > 0:
                await asyncio.sleep(min(rest, BURY_SECONDS))
                self.bury()
            fault = plan[number]
            if is_begin:
                whom = self._found(fault)
                end = await ACTIONS[fault.kind](self, fault, whom)
                self.done[f"{fault.kind}: {fault.what}"] += 1
                self._note(number, fault, "begins", whom)
                ends[number] = end
            else:
                await _call(ends.pop(number))
                self._note(number, fault, "ends", ())

    async def heal(self) -> None:
        """Make everything work: links, disks, processes."""
        servers = self._servers
        for link in servers.links.values():
            link.heal()
        for name in servers.members:
            servers.untrace(name)
            servers.limit_files(name, None)
            servers.resume(name)
        await asyncio.sleep(END_SECONDS)
        self.bury()
        await servers.bring_up(servers.members)
        self._recorder.fault("heal")

    def bury(self) -> None:
        """See to those that have ended by themselves."""
        for name in self._servers.bury():
            self._recorder.fault("ended", name)

    def _found(self, fault: Fault) -> tuple[str, ...]:
        members = list(self._servers.members)
        leader = self._leader() or members[0]
        return tuple(leader if name == LEADER else name for name in fault.whom)

    def _note(self, number: int, fault: Fault, state: str, whom: tuple[str, ...]) -> None:
        facts = {**asdict(fault), "number": number, "state": state}
        if whom:
            facts["whom"] = list(whom)
        self._recorder.fault(fault.kind, facts)

    # -- kinds -------------------------------------------------------------------------------------------------------

    async def kill(self, _fault: Fault, whom: tuple[str, ...]) -> End:
        self._servers.take_down(whom)
        return lambda: self._servers.bring_up(whom)

    async def pause(self, _fault: Fault, whom: tuple[str, ...]) -> End:
        for name in whom:
            self._servers.pause(name)

        def end() -> None:
            for name in whom:
                self._servers.resume(name)

        return end

    async def partition(self, fault: Fault, whom: tuple[str, ...]) -> End:
        return hold(self._cut_off(fault, whom))

    def _cut_off(self, fault: Fault, whom: tuple[str, ...]) -> list[Link]:
        """The links over which nothing passes."""
        servers, members = self._servers, list(self._servers.members)
        everybody = list(dict.fromkeys(name for pair in servers.links for name in pair))
        if fault.what.startswith("leader"):
            others = members if fault.what == "leader with clients" else everybody
            rest = [name for name in others if name not in whom]
            return [*servers.links_between(whom, rest), *servers.links_between(rest, whom)]
        if fault.what == "bridge":
            order = [name for name in whom if name in members]
            middle = len(order) // 2
            one, other = order[:middle], order[middle + 1 :]
            return [*servers.links_between(one, other), *servers.links_between(other, one)]
        at = 1 + int(fault.amount * (len(whom) - 1))
        one, other = list(whom[:at]), list(whom[at:])
        cut = list(servers.links_between(one, other))
        return cut if fault.what == "one way" else [*cut, *servers.links_between(other, one)]

    async def network(self, fault: Fault, whom: tuple[str, ...]) -> End:
        (link,) = self._servers.links_between(whom[:1], whom[1:])
        direction = Direction.BACKWARD if fault.amount > 0.7 else Direction.FORWARD
        match fault.what:
            case "slow":
                link.delay = 0.01 + fault.amount * 0.5
            case "narrow":
                link.bytes_per_second = 2_000 + fault.amount * 100_000
            case "stall":
                return hold([link], direction)
            case "cut":
                link.cut(direction)
            case "drop":
                link.drop()
            case "forget":
                link.forget()
            case "corrupt":
                link.corrupt(direction)

        def end() -> None:
            link.delay, link.bytes_per_second = 0.0, None

        return end

    async def disk(self, fault: Fault, whom: tuple[str, ...]) -> End:
        servers, (name,) = self._servers, whom
        servers.expect_end(name)
        match fault.what:
            case "full":
                servers.limit_files(name, int(fault.amount * 64 * 1024))
            case "sync error":
                await servers.trace(name, "fdatasync:error=EIO:when=1")
            case "slow sync":
                await servers.trace(name, f"fdatasync:delay_enter={int(1000 + fault.amount * 400_000)}")

        async def end() -> None:
            servers.untrace(name)
            servers.limit_files(name, None)
            await asyncio.sleep(END_SECONDS)
            self.bury()
            servers.expect_end(name, is_over=True)
            await servers.bring_up([name])

        return end

    async def clock(self, fault: Fault, whom: tuple[str, ...]) -> End:
        seconds = round(10 ** (fault.amount * 8)) * (1 if round(fault.amount * 1000) % 2 else -1)
        for name in whom:
            self._servers.shift_clock(name, seconds)

        def end() -> None:
            for name in whom:
                self._servers.shift_clock(name, 0)

        return end

    async def client(self, fault: Fault, whom: tuple[str, ...]) -> End:
        slot = int(whom[0].rpartition("-")[2])
        if fault.what == "kill":
            self._clients.kill(slot)
            return lambda: self._clients.restart(slot)
        self._clients.pause(slot)
        return lambda: self._clients.resume(slot)


def hold(links: Sequence[Link], *directions: Direction) -> End:
    """Let nothing pass on these links; what ends that."""
    for link in links:
        link.hold(*directions)

    def end() -> None:
        for link in links:
            link.release(*directions)

    return end


async def _call(end: End) -> None:
    done: Any = end()
    if isinstance(done, Awaitable):
        await done


Act = Callable[[Nemesis, Fault, tuple[str, ...]], Awaitable[End]]

ACTIONS: Final[Mapping[str, Act]] = {
    "kill": Nemesis.kill,
    "pause": Nemesis.pause,
    "partition": Nemesis.partition,
    "network": Nemesis.network,
    "disk": Nemesis.disk,
    "clock": Nemesis.clock,
    "client": Nemesis.client,
}
