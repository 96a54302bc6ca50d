"""What is done to a simulated cluster in order: members come and go, get and lose their votes, and hand over.

None of it is a fault, but all of it may happen in the middle of one. See `membership` for what may be, and when.
"""

from copycat.raft.protocol.configuration import Change
from copycat.testing.cluster import MEMBERS_MAX, NAMES, SimulatedCluster
from copycat.testing.fault import Arguments, Chance, Fault


def _draw_join(chance: Chance) -> Arguments | None:
    membership, nodes = chance.cluster.membership, chance.cluster.nodes
    if membership.is_changing or len(chance.names) >= MEMBERS_MAX or len(nodes) == len(NAMES):
        return None
    return {"member": NAMES[len(nodes)], "vote": float(chance.chooser.random() < 0.7)}


def _join(cluster: SimulatedCluster, member: str, vote: float) -> None:
    """vote: 1 when it is to have one, else 0."""
    if not cluster.membership.is_changing:
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
            return {"member": name, "kind": str(change)}
    return None


def _change_vote(cluster: SimulatedCluster, member: str, kind: str) -> None:
    """kind: "promote" or "demote"."""
    cluster.membership.ask(Change(kind), member)


def _draw_heir(chance: Chance) -> Arguments | None:
    return None if chance.cluster.membership.is_changing else {"member": chance.chooser.choice(chance.names)}


def _hand_over(cluster: SimulatedCluster, member: str) -> None:
    cluster.membership.ask(Change.TRANSFER, member)


MEMBER_FAULTS: dict[str, Fault] = {
    "join": Fault(draw=_draw_join, begin=_join, takes=("member", "vote"), lasts=False),
    "remove": Fault(draw=_draw_removed, begin=_remove, takes=("member", "kind"), lasts=False),
    "change-vote": Fault(draw=_draw_voter, begin=_change_vote, takes=("member", "kind"), lasts=False),
    "hand-over": Fault(draw=_draw_heir, begin=_hand_over, takes=("member",), lasts=False),
}
