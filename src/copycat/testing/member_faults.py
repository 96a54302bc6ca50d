"""What is done to a simulated cluster in order: members come and go, get and lose their votes, and hand over.

None of it is a fault, but all of it may happen in the middle of one. See `membership` for what may be, and when.
"""

from copycat.raft.protocol.configuration import Change
from copycat.testing.cluster import NAMES, SimulatedCluster
from copycat.testing.fault import Arguments, Chance, Fault

MEMBERS_MAX = 5
HAND_OVER_SECONDS = 1.0  # within which one that was asked for is looked out for, so often:
LOOK_SECONDS = 0.0005


def _draw_join(chance: Chance) -> Arguments | None:
    nodes = chance.cluster.nodes
    if len(chance.names) >= MEMBERS_MAX or len(nodes) == len(NAMES):
        return None
    is_calm = not chance.cluster.membership.is_changing
    return {"member": NAMES[len(nodes)], "vote": float(is_calm and chance.chooser.random() < 0.7)}


def _join(cluster: SimulatedCluster, member: str, vote: float) -> None:
    """vote: 1 when it is to have one, else 0; without, it may come in the middle of another change."""
    if not vote or not cluster.membership.is_changing:
        cluster.join(member, vote=bool(vote))


def _draw_removed(chance: Chance) -> Arguments | None:
    name = chance.member()
    if not chance.cluster.membership.may_change(Change.REMOVE, name):
        return None
    return {"member": name, "kind": chance.chooser.choice(("leave", "removed"))}


def _remove(cluster: SimulatedCluster, member: str, kind: str) -> None:
    """kind: "leave", it does so by itself; or "removed", from outside."""
    if kind == "leave":
        cluster.membership.let_leave(member)
    else:
        cluster.membership.ask(Change.REMOVE, member)


def _draw_voter(chance: Chance) -> Arguments | None:
    name = chance.chooser.choice(chance.names)
    for change in (Change.PROMOTE, Change.DEMOTE):
        if chance.cluster.membership.may_change(change, name):
            return {"member": name, "kind": str(change), "cut": _draw_cut(chance, 0.5)}
    return None


def _change_vote(cluster: SimulatedCluster, member: str, kind: str, cut: float) -> None:
    """kind: "promote" or "demote". cut: seconds for which the leader that is asked is cut off from the members."""
    cluster.membership.ask(Change(kind), member)
    if cut:
        _cut_off(cluster, cluster.leader(), cut)


def _draw_cut(chance: Chance, share: float) -> float:
    return chance.seconds(0.1, chance.length) if chance.chooser.random() < share else 0.0


def _cut_off(cluster: SimulatedCluster, leader: str, seconds: float) -> None:
    """From the other members, but not from clients and whoever changes members."""
    loop, healings = cluster.loop, cluster.healings
    mend = cluster.partition([leader], [name for name in cluster.nodes if name != leader])
    loop.call_at_true(loop.now + seconds, lambda: mend() if cluster.healings == healings else None)


def _draw_heir(chance: Chance) -> Arguments | None:
    if chance.cluster.membership.is_changing:
        return None
    return {"member": chance.chooser.choice(chance.names), "cut": _draw_cut(chance, 0.8)}


def _hand_over(cluster: SimulatedCluster, member: str, cut: float) -> None:
    """cut: seconds for which the old leader, once another campaigns, is cut off from the members, but for clients."""
    loop, healings, leader = cluster.loop, cluster.healings, cluster.leader()
    term, until = cluster.term(leader), loop.now + HAND_OVER_SECONDS
    cluster.membership.ask(Change.TRANSFER, member)

    def watch() -> None:
        if any(cluster.term(name) > term for name in cluster.nodes if name != leader):
            _cut_off(cluster, leader, cut)
        elif loop.now < until and cluster.healings == healings:
            loop.call_at_true(loop.now + LOOK_SECONDS, watch)

    if cut:
        watch()


MEMBER_FAULTS: dict[str, Fault] = {
    "join": Fault(draw=_draw_join, begin=_join, takes=("member", "vote"), lasts=False),
    "remove": Fault(draw=_draw_removed, begin=_remove, takes=("member", "kind"), lasts=False),
    "change-vote": Fault(draw=_draw_voter, begin=_change_vote, takes=("member", "kind", "cut"), lasts=False),
    "hand-over": Fault(draw=_draw_heir, begin=_hand_over, takes=("member", "cut"), lasts=False),
}
