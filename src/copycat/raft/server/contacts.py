"""What a leader proposes of its own: the end of silent sessions, the passing of time, the types all can run, and where
members have moved to.

Sessions do not expire by log time. The leader proposes the end of a session it has not heard from, naming the last
activity it knew; where the log shows later activity, the proposal is void.

A type is created only where the log says that every member can run it; so no member ever meets one it lacks.

Source: protocol §2.4, §4.1, §4.2, §7.2.
"""

from collections.abc import Callable
from math import inf

from copycat.raft.core.events import ChangeProposed, Event
from copycat.raft.core.raft import Raft
from copycat.raft.machine.executor import Machines
from copycat.raft.machine.sessions import Sessions
from copycat.raft.machine.timers import Timers
from copycat.raft.protocol.configuration import decode_configuration
from copycat.raft.protocol.entries import ItemKind, pack_types
from copycat.raft.server.identity import Identity
from copycat.raft.server.intake import Intake


def propose_expiries(intake: Intake, sessions: Sessions, now_ms: int) -> None:
    """Propose the end of every session unheard of for its timeout; again after another, should that be void.

    They are looked at when the one unheard of for longest can have timed out, for there may be very many.
    """
    if now_ms <= intake.silent_ms:
        return
    silent_ms: float = inf
    for session in sessions:
        contact = intake.contact_ms.get(session.id, now_ms)
        if now_ms - contact > session.timeout_ms:
            intake.contact_ms[session.id] = contact = now_ms
            intake.add(ItemKind.EXPIRE, session.id, session.activity_index)
        silent_ms = min(silent_ms, contact + session.timeout_ms)
    intake.silent_ms = silent_ms


def propose_moves(raft: Raft, identity: Identity, post: Callable[[Event], None]) -> None:
    """Record where members say that they are now, once no other change of members is under way."""
    if raft.membership.index <= raft.commit_index:
        configuration = decode_configuration(raft.membership.body)
        moved = identity.moved(configuration)
        if moved is not configuration:
            post(ChangeProposed(moved.encode()))


def propose_types(intake: Intake, machines: Machines, common: list[tuple[str, int]] | None) -> None:
    """Say in the log which types every member can run, when that has changed and every member has been heard."""
    if common is not None and common != machines.allowed:
        intake.add(ItemKind.TYPES, blob=pack_types(common))


def propose_tick(intake: Intake, timers: Timers, log_time_now: int) -> bool:
    """Let time pass in the log when a timer is due and nothing else would carry it. Returns whether it was proposed."""
    due = timers.next_due()
    if due is None or due > log_time_now or intake.waiting:
        return False
    intake.add(ItemKind.TICK)
    return True
