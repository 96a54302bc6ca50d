"""What goes wrong in a simulation: every kind of fault, how one is drawn, and what it does.

Faults stay survivable: those that lose a disk (`loses_disk`) leave a majority of whole ones.
"""

from dataclasses import replace

from copycat.testing.cluster import SimulatedCluster
from copycat.testing.fault import DIGITS, Arguments, Chance, End, Fault
from copycat.testing.loop import Host
from copycat.testing.member_faults import MEMBER_FAULTS
from copycat.testing.node import DISK_SECONDS

DRIFT_MAX = 0.01  # of clocks: far below what a lease and the end of a session allow for


# -- processes and machines --------------------------------------------------------------------------------------------


def _restart(cluster: SimulatedCluster, *names: str) -> None:
    """Start what is down, unless it is for good."""
    cluster.start(*(name for name in names if cluster.nodes[name].may_start))


def _kill(cluster: SimulatedCluster, members: tuple[str, ...]) -> End:
    cluster.crash(*members)
    return lambda: _restart(cluster, *members)


def _cut_power(cluster: SimulatedCluster, members: tuple[str, ...]) -> End:
    cluster.crash(*members, power=True)
    return lambda: _restart(cluster, *members)


def _stop(cluster: SimulatedCluster, member: str) -> End:
    """It is told to end, does, and is started again."""
    cluster.stop(member)
    return lambda: _restart(cluster, member)


def _draw_storm(chance: Chance) -> Arguments:
    election = chance.cluster.config.election_timeout_ms / 1000
    return {
        "members": tuple(chance.names),
        "pause": chance.seconds(0.1 * election, 2 * election),
        "times": float(chance.chooser.randrange(3, 9)),
        "power": float(chance.chooser.random() < 0.5),
    }


def _storm(cluster: SimulatedCluster, members: tuple[str, ...], pause: float, times: float, power: float) -> None:
    """One after another goes down and comes back at once, in the middle of elections. power: see `_kill_client`."""
    loop, healings = cluster.loop, cluster.healings

    def strike(name: str) -> None:
        if cluster.healings != healings:
            return
        cluster.crash(name, power=bool(power))
        loop.call_at_true(loop.now + pause / 10, _restart, cluster, name)

    for number in range(int(times)):
        loop.call_at_true(loop.now + number * pause, strike, members[number % len(members)])


def _process(cluster: SimulatedCluster, name: str) -> Host | None:
    return cluster.nodes[name].host if name in cluster.nodes else cluster.hosts[name]


def _pause(cluster: SimulatedCluster, host: str) -> End | None:
    process = _process(cluster, host)  # of the name there may be another when it ends
    if process is None:
        return None
    cluster.pause(host)
    return process.resume


def _suspend(cluster: SimulatedCluster, host: str, seconds: float) -> None:
    cluster.suspend(host, seconds)


def _draw_suspended_client(chance: Chance) -> Arguments | None:
    name = chance.client()
    return {"host": name, "seconds": chance.seconds(0.1, 3 * chance.length)} if name is not None else None


def _of_a_client(name: str | None) -> Arguments | None:
    return {"host": name} if name is not None else None


def _kill_client(cluster: SimulatedCluster, client: str, power: float) -> None:
    """power: 1 when its machine stops, 0 when its process does."""
    if not cluster.hosts[client].is_dead:
        cluster.crash(client, power=bool(power))


def _draw_killed_client(chance: Chance) -> Arguments | None:
    name = chance.client(of=3)
    return {"client": name, "power": float(chance.chooser.random() < 0.5)} if name is not None else None


# -- the network -------------------------------------------------------------------------------------------------------


def _draw_sides(chance: Chance) -> Arguments:
    names = chance.hosts()
    at = chance.chooser.randrange(1, len(names))
    members = [name for name in names if name in chance.cluster.nodes]
    if len(members) % 2 == 0 and chance.chooser.random() < 0.7:
        # Halves: neither is a majority, but a mistake may take both for one.
        side = [*members[: len(members) // 2], *(name for name in names[:at] if name not in members)]
        return {"side": tuple(side), "other": tuple(name for name in names if name not in side)}
    return {"side": tuple(names[:at]), "other": tuple(names[at:])}


def _draw_bridge(chance: Chance) -> Arguments | None:
    """Two halves that see only one member in common, and all the clients."""
    names = chance.names
    if len(names) < 3:
        return None
    chance.chooser.shuffle(names)
    middle = len(names) // 2
    return {"side": tuple(names[:middle]), "other": tuple(names[middle + 1 :])}


def _partition(cluster: SimulatedCluster, side: tuple[str, ...], other: tuple[str, ...]) -> End:
    return cluster.partition(side, other)


def _draw_sides_of_a_leader(chance: Chance) -> Arguments | None:
    """A member, the leader rather than another, with some clients, or all of them; and all the others."""
    names = chance.names
    if len(names) < 3:
        return None
    alone = chance.cluster.leader() if chance.chooser.random() < 0.8 else chance.member()
    share = chance.chooser.choice((0.5, 1.0))
    clients = [name for name in chance.cluster.hosts if chance.chooser.random() < share]
    return {
        "side": (alone, *clients),
        "other": tuple(name for name in (*names, *chance.cluster.hosts) if name != alone and name not in clients),
    }


def _partition_refusing(cluster: SimulatedCluster, side: tuple[str, ...], other: tuple[str, ...]) -> End:
    return cluster.partition(side, other, refusing=True)


def _draw_old_leader(chance: Chance) -> Arguments | None:
    sides = _draw_sides_of_a_leader(chance)
    if sides is None:
        return None
    election = chance.cluster.config.election_timeout_ms / 1000
    return {
        **sides,
        "seconds": chance.seconds(1.5 * election, 3 * election),
        "down": chance.seconds(election, 5 * election),
        "anew": float(chance.chooser.random() < 0.5),
    }


def _return_old_leader(
    cluster: SimulatedCluster, side: tuple[str, ...], other: tuple[str, ...], seconds: float, down: float, anew: float
) -> None:
    """A leader is cut off, with clients that write to it alone. It comes back at the very moment in which its successor
    dies: what they wrote, and what was committed meanwhile, compete in the next election. seconds: until it is back;
    down: until the other is; anew: 1 when it starts again as it comes back."""
    loop, healings, mend = cluster.loop, cluster.healings, cluster.partition(side, other)

    def come_back() -> None:
        if cluster.healings != healings:
            return
        mend()
        leader = cluster.leader()
        if leader in other:
            cluster.crash(leader)
            loop.call_at_true(loop.now + down, _restart, cluster, leader)
        if anew and cluster.nodes[side[0]].is_up:
            cluster.crash(side[0])
            _restart(cluster, side[0])

    loop.call_at_true(loop.now + seconds, come_back)


def _partition_one_way(cluster: SimulatedCluster, side: tuple[str, ...], other: tuple[str, ...]) -> End:
    return cluster.partition(side, other, one_way=True)


def _isolate(cluster: SimulatedCluster, host: str) -> End:
    return cluster.isolate(host)


def _draw_flap(chance: Chance) -> Arguments:
    source, target = chance.hosts()[:2]
    return {
        "source": source,
        "target": target,
        "down": chance.seconds(0.05, 1),
        "up": chance.seconds(0.05, 1),
        "times": float(chance.chooser.randrange(2, 8)),
    }


def _flap(cluster: SimulatedCluster, source: str, target: str, down: float, up: float, times: float) -> None:
    """A link goes and comes."""
    loop, network = cluster.loop, cluster.network
    cluster.note("flapping link", source, target)
    for number in range(int(times)):
        at = loop.now + number * (down + up)
        loop.call_at_true(at, network.block, source, target)
        loop.call_at_true(at + down, network.unblock, source, target)


def _draw_slow_link(chance: Chance) -> Arguments:
    source, target = chance.hosts()[:2]
    rate = chance.chooser.choice((0.0, 20_000.0, 200_000.0))
    return {"source": source, "target": target, "latency": chance.seconds(0.02, 0.5), "rate": rate}


def _slow_link(cluster: SimulatedCluster, source: str, target: str, latency: float, rate: float) -> End:
    """latency: seconds at most. rate: bytes a second; 0 is no limit."""
    network, usual = cluster.network, cluster.network.rule
    cluster.note("slow link", source, target)
    rule = replace(usual, latency=(min(0.01, latency), latency), bytes_per_second=rate or None)
    network.set_rule(rule, (source, target))
    return lambda: network.set_rule(None, (source, target))


def _draw_bad_network(chance: Chance) -> Arguments:
    return {"stall": chance.seconds(0, 0.2), "cut": chance.chooser.choice((0.0, 0.01, 0.05))}


def _spoil_network(cluster: SimulatedCluster, stall: float, cut: float) -> End:
    """Packets are lost everywhere: writes come late, and connections break."""
    network = cluster.network
    cluster.note("bad network")
    network.set_rule(replace(network.rule, stall=stall, cut=cut, stall_seconds=(0.02, 1.0)))
    return lambda: network.set_rule(replace(network.rule, stall=0.0, cut=0.0))


# -- disks -------------------------------------------------------------------------------------------------------------


def _slow_disk(cluster: SimulatedCluster, member: str, seconds: float) -> End:
    node = cluster.nodes[member]
    cluster.note("slow disk", member, seconds)
    node.disk_seconds = (min(0.001, seconds), seconds)

    def end() -> None:
        node.disk_seconds = DISK_SECONDS

    return end


def _mend_disk(cluster: SimulatedCluster, name: str) -> None:
    """It works again, and so does the member, if it ended itself."""
    cluster.nodes[name].disk.heal()
    _restart(cluster, name)


def _fail_disk(cluster: SimulatedCluster, member: str) -> End:
    """Syncs fail; the process must not go on."""
    cluster.note("failing sync", member)
    cluster.nodes[member].disk.fail_syncs = True
    return lambda: _mend_disk(cluster, member)


def _fill_disk(cluster: SimulatedCluster, member: str, free: float) -> End:
    """free: bytes."""
    cluster.note("full disk", member)
    cluster.nodes[member].disk.free_bytes = int(free)
    return lambda: _mend_disk(cluster, member)


def _draw_rot(chance: Chance) -> Arguments | None:
    name = chance.spare_member()
    if name is None:
        return None
    kind = chance.chooser.choice(("bit", "sector", "misdirected", "metadata", "snapshot"))
    return {"member": name, "kind": kind, "place": chance.seconds(0, 1)}


def _rot(cluster: SimulatedCluster, member: str, kind: str, place: float) -> End | None:
    if not cluster.membership.may_lose(member):
        return None
    cluster.rot(member, kind, place)
    return lambda: _restart(cluster, member)


def _draw_wipe(chance: Chance) -> Arguments | None:
    name = chance.spare_member()
    return {"member": name} if name is not None else None


def _wipe(cluster: SimulatedCluster, member: str) -> None:
    if cluster.membership.may_lose(member):
        cluster.wipe(member)


# -- clocks ------------------------------------------------------------------------------------------------------------


def _draw_jump(chance: Chance) -> Arguments:
    seconds = chance.chooser.choice((-1, 1)) * 10 ** chance.chooser.uniform(-1, 8)
    return {"host": chance.member(), "seconds": round(seconds, DIGITS)}


def _jump_clock(cluster: SimulatedCluster, host: str, seconds: float) -> None:
    cluster.skew(host, jump=seconds)


def _draw_drift(chance: Chance) -> Arguments:
    return {"host": chance.hosts()[0], "rate": round(1 + chance.chooser.uniform(-DRIFT_MAX, DRIFT_MAX), 5)}


def _let_clock_drift(cluster: SimulatedCluster, host: str, rate: float) -> None:
    """rate: seconds that all clocks there count in one."""
    cluster.skew(host, rate=rate)


def _a_member(chance: Chance) -> Arguments:
    return {"member": chance.member()}


def _the_host_of_a_member(chance: Chance) -> Arguments:
    return {"host": chance.member()}


def _some_members(chance: Chance) -> Arguments:
    return {"members": chance.members()}


FAULTS: dict[str, Fault] = {
    "kill": Fault(draw=_some_members, begin=_kill, takes=("members",)),
    "cut-power": Fault(draw=_some_members, begin=_cut_power, takes=("members",)),
    "stop": Fault(draw=_a_member, begin=_stop, takes=("member",)),
    "storm": Fault(draw=_draw_storm, begin=_storm, takes=("members", "pause", "times", "power"), lasts=False),
    "pause": Fault(draw=_the_host_of_a_member, begin=_pause, takes=("host",)),
    "suspend": Fault(
        draw=lambda chance: {"host": chance.member(), "seconds": chance.seconds(0.1, chance.length)},
        begin=_suspend,
        takes=("host", "seconds"),
        lasts=False,
    ),
    "partition": Fault(draw=_draw_sides, begin=_partition, takes=("side", "other")),
    "one-way-partition": Fault(draw=_draw_sides, begin=_partition_one_way, takes=("side", "other")),
    "refusing-partition": Fault(draw=_draw_sides_of_a_leader, begin=_partition_refusing, takes=("side", "other")),
    "old-leader": Fault(
        draw=_draw_old_leader, begin=_return_old_leader, takes=("side", "other", "seconds", "down", "anew"), lasts=False
    ),
    "isolate": Fault(draw=_the_host_of_a_member, begin=_isolate, takes=("host",)),
    "bridge": Fault(draw=_draw_bridge, begin=_partition, takes=("side", "other")),
    "flap": Fault(draw=_draw_flap, begin=_flap, takes=("source", "target", "down", "up", "times"), lasts=False),
    "slow-link": Fault(draw=_draw_slow_link, begin=_slow_link, takes=("source", "target", "latency", "rate")),
    "bad-network": Fault(draw=_draw_bad_network, begin=_spoil_network, takes=("stall", "cut")),
    "slow-disk": Fault(
        draw=lambda chance: {"member": chance.member(), "seconds": chance.chooser.choice((0.05, 0.3, 2.0))},
        begin=_slow_disk,
        takes=("member", "seconds"),
    ),
    "fail-disk": Fault(draw=_a_member, begin=_fail_disk, takes=("member",)),
    "fill-disk": Fault(
        draw=lambda chance: {"member": chance.member(), "free": float(chance.chooser.randrange(5000))},
        begin=_fill_disk,
        takes=("member", "free"),
    ),
    "rot": Fault(draw=_draw_rot, begin=_rot, takes=("member", "kind", "place")),
    "jump-clock": Fault(draw=_draw_jump, begin=_jump_clock, takes=("host", "seconds"), lasts=False),
    "drift-clock": Fault(draw=_draw_drift, begin=_let_clock_drift, takes=("host", "rate"), lasts=False),
    "wipe": Fault(draw=_draw_wipe, begin=_wipe, takes=("member",), lasts=False, loses_disk=True),
    **MEMBER_FAULTS,
    "pause-client": Fault(draw=lambda chance: _of_a_client(chance.client()), begin=_pause, takes=("host",)),
    "suspend-client": Fault(draw=_draw_suspended_client, begin=_suspend, takes=("host", "seconds"), lasts=False),
    "isolate-client": Fault(draw=lambda chance: _of_a_client(chance.client()), begin=_isolate, takes=("host",)),
    "kill-client": Fault(draw=_draw_killed_client, begin=_kill_client, takes=("client", "power"), lasts=False),
}
