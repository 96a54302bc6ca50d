"""Whoever brings the faults into a simulation: which, where and for how long is drawn from the seed.

Faults stay survivable: no more disks are lost than a majority can spare. Whatever begins also ends, at the latest when
`stop` is called and the cluster is healed.
"""

import asyncio
from collections.abc import Callable
from random import Random

from copycat.testing.cluster import SimulatedCluster
from copycat.testing.network import LinkRule

DRIFT_MAX = 0.01  # of clocks: far below what a lease and the end of a session allow for

End = Callable[[], object]


class Nemesis:
    """Brings faults of these `kinds` (keys of FAULTS) into a cluster, one after another, some at a time.

    pause: seconds between the beginnings of two faults, on average. length: the most that one lasts.
    """

    def __init__(
        self, cluster: SimulatedCluster, chooser: Random, kinds: list[str], *, pause: float, length: float
    ) -> None:
        self.cluster = cluster
        self.chooser = chooser
        self.kinds = kinds
        self.pause = pause
        self.length = length
        self._is_over = False

    async def run(self) -> None:
        """Until cancelled."""
        cluster, chooser = self.cluster, self.chooser
        while self.kinds:
            await asyncio.sleep(chooser.expovariate(1 / self.pause))
            end = FAULTS[chooser.choice(self.kinds)](self)
            if end is not None:
                cluster.loop.call_at_true(cluster.loop.now + chooser.uniform(0.05, self.length), self._end, end)

    def stop(self) -> None:
        """End nothing more by itself: all will be healed."""
        self._is_over = True

    def _end(self, end: End) -> None:
        if not self._is_over:
            end()

    # -- whom it hits ------------------------------------------------------------------------------------------------

    def member(self) -> str:
        """One of the members, the leader rather than another."""
        if self.chooser.random() < 0.4:
            return self.cluster.leader()
        return self.chooser.choice(list(self.cluster.nodes))

    def some(self) -> list[str]:
        """One member, mostly; else several, or all."""
        names = list(self.cluster.nodes)
        count = self.chooser.choice((1, 1, 1, 1, 2, len(names)))
        return [self.member()] if count == 1 else self.chooser.sample(names, min(count, len(names)))

    def client(self) -> str | None:
        """A client that lives."""
        alive = [name for name, host in self.cluster.hosts.items() if not host.is_dead]
        return self.chooser.choice(alive) if alive else None

    def pair(self) -> tuple[str, str]:
        """Two hosts."""
        names = [*self.cluster.nodes, *self.cluster.hosts]
        one, other = self.chooser.sample(names, 2)
        return one, other

    def mend_disk(self, name: str) -> None:
        """Its disk works again, and so does the member, if it ended itself."""
        self.cluster.nodes[name].disk.heal()
        self.restart([name])

    def restart(self, names: list[str]) -> None:
        """Start what was down, unless its disk is gone for good."""
        for name in names:
            if not self.cluster.nodes[name].is_lost:
                self.cluster.start(name)


def kill(nemesis: Nemesis, *, power: bool = False) -> End:
    names = nemesis.some()
    nemesis.cluster.crash(*names, power=power)
    return lambda: nemesis.restart(names)


def cut_power(nemesis: Nemesis) -> End:
    return kill(nemesis, power=True)


def pause(nemesis: Nemesis) -> End:
    name = nemesis.member()
    host = nemesis.cluster.nodes[name].host
    nemesis.cluster.pause(name)
    return lambda: host.resume() if host is not None else None


def suspend(nemesis: Nemesis) -> None:
    nemesis.cluster.suspend(nemesis.member(), nemesis.chooser.uniform(0.1, nemesis.length))


def partition(nemesis: Nemesis, *, one_way: bool = False) -> End:
    names = [*nemesis.cluster.nodes, *nemesis.cluster.hosts]
    nemesis.chooser.shuffle(names)
    at = nemesis.chooser.randrange(1, len(names))
    return nemesis.cluster.partition(names[:at], names[at:], one_way=one_way)


def partition_one_way(nemesis: Nemesis) -> End:
    return partition(nemesis, one_way=True)


def isolate(nemesis: Nemesis) -> End:
    return nemesis.cluster.isolate(nemesis.member())


def bridge(nemesis: Nemesis) -> End | None:
    """Two halves that see only one member in common."""
    names = list(nemesis.cluster.nodes)
    if len(names) < 3:
        return None
    nemesis.chooser.shuffle(names)
    middle = len(names) // 2
    return nemesis.cluster.partition(names[:middle], names[middle + 1 :])


def flap(nemesis: Nemesis) -> None:
    """A link that comes and goes."""
    one, other = nemesis.pair()
    loop, chooser = nemesis.cluster.loop, nemesis.chooser
    at = loop.now
    nemesis.cluster.note("flapping link", one, other)
    for _ in range(chooser.randrange(2, 8)):
        loop.call_at_true(at, nemesis.cluster.network.block, one, other)
        at += chooser.uniform(0.05, 1.0)
        loop.call_at_true(at, nemesis.cluster.network.unblock, one, other)
        at += chooser.uniform(0.05, 1.0)


def slow_link(nemesis: Nemesis) -> End:
    pair, chooser, network = nemesis.pair(), nemesis.chooser, nemesis.cluster.network
    rate = chooser.choice((None, 20_000.0, 200_000.0))
    rule = LinkRule(latency=(0.01, chooser.uniform(0.02, 0.5)), bytes_per_second=rate)
    nemesis.cluster.note("slow link", *pair)
    network.set_rule(rule, pair)
    return lambda: network.set_rule(None, pair)


def bad_network(nemesis: Nemesis) -> End:
    """Packets are lost everywhere: writes come late, and connections break."""
    chooser, network = nemesis.chooser, nemesis.cluster.network
    before = network.rule
    nemesis.cluster.note("bad network")
    network.set_rule(
        LinkRule(stall=chooser.uniform(0, 0.2), cut=chooser.choice((0.0, 0.01, 0.05)), stall_seconds=(0.02, 1.0))
    )
    return lambda: network.set_rule(before)


def slow_disk(nemesis: Nemesis) -> End:
    node = nemesis.cluster.nodes[nemesis.member()]
    before, longest = node.disk_seconds, nemesis.chooser.choice((0.05, 0.3, 2.0))
    nemesis.cluster.note("slow disk", node.name, longest)
    node.disk_seconds = (0.001, longest)

    def end() -> None:
        node.disk_seconds = before

    return end


def fail_disk(nemesis: Nemesis) -> End:
    """The next sync fails, once; the process must not go on."""
    name = nemesis.member()
    nemesis.cluster.note("failing sync", name)
    nemesis.cluster.nodes[name].disk.fail_syncs = True
    return lambda: nemesis.mend_disk(name)


def fill_disk(nemesis: Nemesis) -> End:
    name = nemesis.member()
    nemesis.cluster.note("full disk", name)
    nemesis.cluster.nodes[name].disk.free_bytes = nemesis.chooser.randrange(5000)
    return lambda: nemesis.mend_disk(name)


def jump_clock(nemesis: Nemesis) -> None:
    nemesis.cluster.skew(nemesis.member(), jump=nemesis.chooser.choice((-1, 1)) * 10 ** nemesis.chooser.uniform(-1, 8))


def drift_clock(nemesis: Nemesis) -> None:
    names = [*nemesis.cluster.nodes, *nemesis.cluster.hosts]
    nemesis.cluster.skew(nemesis.chooser.choice(names), rate=1 + nemesis.chooser.uniform(-DRIFT_MAX, DRIFT_MAX))


def wipe(nemesis: Nemesis) -> None:
    """A disk is gone for good, where the others can do without."""
    nodes = nemesis.cluster.nodes
    if 2 * (sum(node.is_lost for node in nodes.values()) + 1) < len(nodes):
        nemesis.cluster.wipe(nemesis.member())


def pause_client(nemesis: Nemesis) -> End | None:
    name = nemesis.client()
    if name is None:
        return None
    nemesis.cluster.pause(name)
    return nemesis.cluster.hosts[name].resume


def suspend_client(nemesis: Nemesis) -> None:
    name = nemesis.client()
    if name is not None:
        nemesis.cluster.suspend(name, nemesis.chooser.uniform(0.1, 3 * nemesis.length))


def kill_client(nemesis: Nemesis) -> None:
    """One of several."""
    name = nemesis.client()
    if name is not None and sum(not host.is_dead for host in nemesis.cluster.hosts.values()) > 2:
        nemesis.cluster.crash(name, power=nemesis.chooser.random() < 0.5)


FAULTS: dict[str, Callable[[Nemesis], End | None]] = {
    "kill": kill,
    "power": cut_power,
    "pause": pause,
    "suspend": suspend,
    "partition": partition,
    "one-way partition": partition_one_way,
    "isolate": isolate,
    "bridge": bridge,
    "flap": flap,
    "slow link": slow_link,
    "bad network": bad_network,
    "slow disk": slow_disk,
    "failing disk": fail_disk,
    "full disk": fill_disk,
    "clock jump": jump_clock,
    "clock drift": drift_clock,
    "wipe": wipe,
    "paused client": pause_client,
    "suspended client": suspend_client,
    "killed client": kill_client,
}
