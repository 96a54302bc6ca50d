"""What a server tells about itself, to people and to programs."""

from dataclasses import asdict, dataclass
from typing import Any

from copycat.raft.core.quorum import majority
from copycat.raft.server.desk import Desk
from copycat.raft.server.driver import Driver
from copycat.raft.server.identity import Identity
from copycat.raft.server.peers import Peers
from copycat.util.statistics import Histogram, Latencies


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One server's view, which may differ from another's for a moment.

    role: "forming" (waits to hear every listed member once, or to be let in), "follower", "candidate", "leader",
        "passive" (has no vote, or its log is being refilled), or "halted".
    leader: the id of the leader this server can reach; None while there is none.
    why_no_leader: what is missing, for people; None while there is a leader.
    members: id to address. passive: ids of those without a vote. unreachable: id to the reason its last dial failed.
    commit_index, applied_index, last_index, durable_index: the log as far as it is committed, applied, written, and
        flushed here.
    first_index, snapshot_index: where the log begins here, and the last index that this member's newest snapshot
        covers, 0 without one. snapshot_problem: why the last one was not taken; None once one has been again.
    free_bytes: the room on this member's disk; None where nobody looks. space_problem: why it takes no commands as a
        leader, for want of room; None while there is enough.
    checked_index: up to where this member's state is known to be that of the majority; 0 while nothing is.
        check_problem: states differ, and it is not known yet whose is right; None otherwise.
    sessions, clients: open sessions of the cluster; clients connected to this server.
    flushes: how long the flushes of the log took since the start. protocol_errors: connections closed since then
        because they sent what is not Copycat's.
    failure: why a halted member has halted.
    """

    id: str
    role: str
    term: int
    leader: str | None
    why_no_leader: str | None
    cluster_id: str
    members: dict[str, str]
    passive: list[str]
    unreachable: dict[str, str]
    commit_index: int
    applied_index: int
    last_index: int
    durable_index: int
    first_index: int
    snapshot_index: int
    snapshot_problem: str | None
    free_bytes: int | None
    space_problem: str | None
    checked_index: int
    check_problem: str | None
    sessions: int
    clients: int
    flushes: Latencies
    protocol_errors: int
    failure: str | None

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


def describe(
    identity: Identity,
    driver: Driver | None,
    desk: Desk | None,
    peers: Peers | None,
    failure: BaseException | None,
    protocol_errors: int,
) -> Status:
    """The status of a server from its parts, those that exist already."""
    raft = driver.raft if driver is not None else None
    unreachable = dict(sorted(peers.failures.items())) if peers is not None else {}
    leader = None
    if raft is not None and desk is not None and failure is None:
        leader = desk.known_leader
    role = "forming" if raft is None else raft.role.name
    if role == "follower" and raft is not None and not raft.is_voter:
        role = "passive"
    return Status(
        id=identity.member.id,
        role="halted" if failure is not None else role,
        term=raft.term if raft is not None else 0,
        leader=leader,
        why_no_leader=None if leader else _why(identity, peers, raft is not None, unreachable, failure),
        cluster_id=identity.cluster_id.hex(),
        members={member.id: member.address for member in identity.members},
        passive=sorted(identity.passive),
        unreachable=unreachable,
        commit_index=raft.commit_index if raft is not None else 0,
        applied_index=driver.executor.applied_index if driver is not None else 0,
        last_index=raft.log.last_index if raft is not None else 0,
        durable_index=raft.durable_index if raft is not None else 0,
        first_index=raft.log.base_index + 1 if raft is not None else 1,
        snapshot_index=raft.snapshot.index if raft is not None and raft.snapshot is not None else 0,
        snapshot_problem=driver.snapshots.taker.problem if driver is not None else None,
        free_bytes=driver.snapshots.space.free_bytes if driver is not None else None,
        space_problem=driver.snapshots.space.problem if driver is not None else None,
        checked_index=desk.checks.checked_index if desk is not None else 0,
        check_problem=desk.checks.problem if desk is not None else None,
        sessions=len(driver.executor.sessions) if driver is not None else 0,
        clients=desk.client_count if desk is not None else 0,
        flushes=(driver.flusher.durations if driver is not None else Histogram()).snapshot(),
        protocol_errors=protocol_errors,
        failure=str(failure) if failure is not None else None,
    )


def _why(
    identity: Identity,
    peers: Peers | None,
    formed: bool,
    unreachable: dict[str, str],
    failure: BaseException | None,
) -> str:
    if failure is not None:
        return f"{identity.member.id} has halted: {failure}"
    up = peers.up if peers is not None else []
    reached = sorted([identity.member.id, *up])
    missing = "; ".join(f"{member}: {reason}" for member, reason in unreachable.items())
    if not formed:
        return (
            f"the cluster has not formed: all {len(identity.members)} members must be heard once; "
            f"heard {', '.join(reached)}" + (f"; not {missing}" if missing else "")
        )
    needed = majority(len(identity.voters))
    if len([name for name in reached if name not in identity.passive]) < needed:
        others = missing or "the others"
        return f"{needed} of {len(identity.voters)} members are needed; reached {', '.join(reached)}; not {others}"
    return f"an election is under way among {', '.join(reached)}" + (f"; not reached: {missing}" if missing else "")
