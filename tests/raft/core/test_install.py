"""How a snapshot goes from a leader to a member that lacks what the leader's log no longer holds, event by event.

The scenarios snapshot_*.txt show whole conversations.
"""

import pytest

from copycat.errors import ConfigurationError, InvariantError
from copycat.raft.core.config import RaftConfig
from copycat.raft.core.effects import (
    Committed,
    Discard,
    Effect,
    InstallSnapshot,
    Persist,
    RoleChanged,
    SendSnapshot,
    StoreChunk,
)
from copycat.raft.core.events import (
    Applied,
    ChunkStored,
    Persisted,
    Reachable,
    SnapshotLost,
    SnapshotReceived,
    SnapshotSpoiled,
    SnapshotTaken,
    Unreachable,
)
from copycat.raft.core.follower import Follower
from copycat.raft.core.log_view import LogView
from copycat.raft.core.raft import Raft
from copycat.raft.protocol.messages import Install, InstallResponse, SnapshotId
from tests.raft.core.disk import read_list
from tests.raft.core.member import HISTORY, Member, answers, append_to, appends, blocks_of, messages, propose, ready

ABC = read_list(0, b"a,b,c")
PIECES = RaftConfig(notice_ms=0, install_bytes_max=40)
FAR = SnapshotId(index=20, term=2, chain=200, time=2_000, size=100)


def piece(offset: int, *, term: int = 2, serial: int = 1, size: int = 40, snapshot: SnapshotId = FAR) -> Install:
    return Install(
        term=term,
        index=snapshot.index,
        last_term=snapshot.term,
        chain=snapshot.chain,
        time=snapshot.time,
        size=snapshot.size,
        serial=serial,
        offset=offset,
        data=b"." * size,
    )


def sent(effects: list[Effect]) -> list[tuple[str, int, int, int]]:
    """Member, serial, offset and length of each piece or question."""
    return [(e.member, e.serial, e.offset, e.length) for e in effects if isinstance(e, SendSnapshot)]


def stored(effects: list[Effect]) -> list[tuple[int, int]]:
    return [(e.offset, len(e.data)) for e in effects if isinstance(e, StoreChunk)]


def told(effects: list[Effect]) -> list[tuple[int, int, int]]:
    """Index, serial and offset of each answer to a piece."""
    return [(m.index, m.serial, m.offset) for _, m in messages(effects) if isinstance(m, InstallResponse)]


def discarded(effects: list[Effect]) -> list[int]:
    return [e.index for e in effects if isinstance(e, Discard)]


# -- what a leader does ------------------------------------------------------------------------------------------------


def leading() -> Member:
    """A leader whose log, applied to its end, `b` holds too; `c` has said nothing."""
    member = ready(install_bytes_max=40)
    for number in range(3):
        propose(member, b"%d" % number)
    member.flush()
    member.answer("b")
    member.step(Applied(member.raft.commit_index))
    return member


def taken(member: Member, size: int = 100) -> SnapshotId:
    log = member.raft.log
    return SnapshotId(index=log.last_index, term=log.last_term, chain=log.last_chain, time=0, size=size)


def transferring() -> tuple[Member, SnapshotId]:
    """A leader that has begun to send its snapshot to `c`."""
    member = leading()
    snapshot = taken(member)
    member.step(SnapshotTaken(snapshot, snapshot.index))
    assert sent(member.refuse("c", 1)) == [("c", 1, 0, 40)]
    return member, snapshot


def respond(
    member: Member, serial: int, offset: int, *, index: int | None = None, term: int | None = None
) -> list[Effect]:
    return member.hear(
        "c",
        InstallResponse(
            term=member.raft.term if term is None else term,
            index=member.raft.log.base_index if index is None else index,
            serial=serial,
            offset=offset,
        ),
    )


def test_the_log_is_let_go_of_up_to_where_it_is_applied_and_a_snapshot_stands_for_it() -> None:
    member = leading()
    last = member.raft.log.last_index
    propose(member, b"not applied")
    effects = member.step(SnapshotTaken(taken(member), last + 1))
    assert discarded(effects) == [last]
    assert member.raft.log.base_index == last
    assert discarded(member.step(SnapshotTaken(taken(member), last))) == []


def test_more_of_the_log_is_kept_than_the_snapshot_asks_for_if_it_is_told_so() -> None:
    member = leading()
    snapshot = taken(member)
    assert discarded(member.step(SnapshotTaken(snapshot, snapshot.index - 2))) == [snapshot.index - 2]


@pytest.mark.paper("5.3")
def test_a_member_whose_log_may_agree_only_below_where_the_log_begins_is_sent_the_snapshot() -> None:
    member, snapshot = transferring()
    assert sent(respond(member, 1, 40)) == [("c", 2, 40, 40)]
    assert sent(respond(member, 2, 80)) == [("c", 3, 80, 20)]
    propose(member, b"behind it")
    effects = respond(member, 3, 100)
    assert sent(effects) == []
    (append,) = appends(effects, "c")
    assert (append.previous_index, append.last_index) == (snapshot.index, snapshot.index + 1)


def test_answers_that_are_late_or_of_another_snapshot_or_term_move_nothing() -> None:
    member, snapshot = transferring()
    respond(member, 1, 40)
    assert sent(respond(member, 1, 40)) == []
    assert sent(respond(member, 2, 80, index=snapshot.index - 1)) == []
    assert sent(respond(member, 2, 80, term=member.raft.term - 1)) == []
    assert (
        sent(member.hear("b", InstallResponse(term=member.raft.term, index=snapshot.index, serial=2, offset=80))) == []
    )
    assert sent(respond(member, 2, 80)) == [("c", 3, 80, 20)]


def test_a_member_that_has_more_than_there_is_breaks_an_invariant() -> None:
    member, _ = transferring()
    with pytest.raises(InvariantError, match="more of a snapshot than there is"):
        respond(member, 1, 101)


def test_after_a_heartbeat_without_an_answer_the_leader_asks_and_sends_again_what_is_missing() -> None:
    member, _ = transferring()
    effects = member.step(after=PIECES.heartbeat_ms)
    assert sent(effects) == [("c", 2, 0, 0)]
    assert [append.last_index < append.first_index for append in appends(effects, "c")] == [True]
    assert sent(respond(member, 2, 0)) == [("c", 3, 0, 40)]


def test_no_entries_are_sent_to_a_member_that_waits_for_a_snapshot_nor_is_it_sent_twice() -> None:
    member, _ = transferring()
    propose(member, b"more")
    assert sent(member.refuse("c", 1)) == []
    assert [append.last_index < append.first_index for append in appends(member.step(after=100), "c")] == [True]


def test_a_member_that_turns_out_to_hold_what_is_needed_is_sent_entries_at_once() -> None:
    member, snapshot = transferring()
    propose(member, b"more")
    effects = member.answer("c", match=snapshot.index)
    assert [append.first_index for append in appends(effects, "c")] == [snapshot.index + 1]
    assert sent(respond(member, 1, 40)) == []


def test_an_answer_about_entries_from_before_does_not_end_a_transfer() -> None:
    member, _ = transferring()
    member.answer("c", match=1)
    assert sent(respond(member, 1, 40)) == [("c", 2, 40, 40)]


def test_entries_behind_a_snapshot_on_its_way_are_kept_whatever_snapshots_follow() -> None:
    member, snapshot = transferring()
    propose(member, b"more")
    member.flush()
    member.answer("b")
    member.step(Applied(member.raft.commit_index))
    later = taken(member)
    assert discarded(member.step(SnapshotTaken(later, later.index))) == []
    member.step(Unreachable("c", refused=False))
    assert discarded(member.step(SnapshotTaken(later, later.index))) == [later.index]
    member.step(Reachable("c"))
    assert sent(member.refuse("c", 1)) == [("c", 1, 0, 40)]
    assert snapshot.index < later.index


def test_a_member_that_was_being_probed_where_the_log_was_let_go_of_is_asked_where_it_begins() -> None:
    member = leading()
    snapshot = taken(member)
    member.step(Reachable("c"))
    member.step(SnapshotTaken(snapshot, snapshot.index))
    assert [append.previous_index for append in appends(member.step(after=100), "c")] == [snapshot.index]
    effects = member.step(Unreachable("c", refused=False), Reachable("c"))
    assert [append.previous_index for append in appends(effects, "c")] == [snapshot.index]


def test_a_snapshot_that_cannot_be_read_is_sent_no_further_and_the_newest_is_sent_when_it_is_refused_again() -> None:
    member, snapshot = transferring()
    other = SnapshotId(index=1, term=1, chain=1, time=0, size=1)
    member.step(SnapshotLost(other))
    assert sent(respond(member, 1, 40)) == [("c", 2, 40, 40)]
    assert sent(member.step(SnapshotLost(snapshot))) == []
    assert sent(respond(member, 2, 80)) == []
    assert sent(member.refuse("c", 1)) == [("c", 1, 0, 40)]


def test_a_leader_tells_one_of_an_earlier_term_about_its_own() -> None:
    member = leading()
    effects = member.hear("c", piece(0, term=member.raft.term - 1))
    assert [message.term for _, message in messages(effects) if isinstance(message, InstallResponse)] == [
        member.raft.term
    ]
    with pytest.raises(InvariantError, match="two leaders"):
        member.hear("c", piece(0, term=member.raft.term))


# -- what a member does ------------------------------------------------------------------------------------------------


def following(*, voting: bool = True) -> Member:
    member = Member(HISTORY, term=2, config=PIECES, voting=voting)
    member.follow()
    return member


def test_pieces_are_put_aside_in_order_and_each_is_answered_when_it_is() -> None:
    member = following()
    effects = member.hear("b", piece(0))
    assert (stored(effects), told(effects)) == ([(0, 40)], [])
    assert told(member.step(ChunkStored(FAR, 40))) == [(20, 1, 40)]
    assert stored(member.hear("b", piece(40, serial=2))) == [(40, 40)]
    assert told(member.step(ChunkStored(FAR, 80))) == [(20, 2, 80)]


def test_a_piece_that_is_not_the_next_is_answered_with_what_is() -> None:
    member = following()
    assert told(member.hear("b", piece(40))) == [(20, 1, 0)]
    assert told(member.hear("b", piece(0, size=0, serial=2))) == [(20, 2, 0)]
    member.hear("b", piece(0, serial=3))
    member.step(ChunkStored(FAR, 40))
    for request in (piece(0, serial=4), piece(80, serial=5), piece(40, size=0, serial=6)):
        effects = member.hear("b", request)
        assert (told(effects), stored(effects)) == ([(20, request.serial, 40)], [])


def test_while_the_disk_is_busy_questions_wait_and_the_newest_is_answered() -> None:
    member = following()
    member.hear("b", piece(0))
    effects = member.hear("b", piece(0, size=0, serial=2))
    assert (told(effects), stored(effects)) == ([], [])
    assert told(member.step(ChunkStored(FAR, 40))) == [(20, 2, 40)]


def receive(member: Member, snapshot: SnapshotId = FAR) -> list[Effect]:
    member.hear("b", piece(0, snapshot=snapshot, size=snapshot.size))
    return member.step(SnapshotReceived(snapshot, ABC, "state"))


@pytest.mark.paper("5.3")
def test_a_whole_snapshot_takes_the_place_of_log_and_state_in_one_step() -> None:
    member = following()
    effects = receive(member)
    (installed,) = [effect for effect in effects if isinstance(effect, InstallSnapshot)]
    assert (installed.snapshot, installed.state) == (FAR, "state")
    assert told(effects) == [(20, 1, 100)]
    raft = member.raft
    assert (raft.log.base_index, raft.log.base_term, raft.log.base_chain) == (20, 2, 200)
    assert (raft.commit_index, raft.applied_index, raft.durable_index) == (20, 20, 20)
    assert raft.log_time == FAR.time
    assert raft.snapshot == FAR
    assert [answer.match_index for answer in answers(effects)] == [20]
    follows = append_to((), blocks_of(2, after=blocks_of(1)), term=2, commit=21)
    follows.previous_index, follows.previous_term, follows.previous_chain = 20, 2, 200
    follows.blocks[0].first_index = 21
    assert [effect.index for effect in member.hear("b", follows) if isinstance(effect, Committed)] == [21]


@pytest.mark.paper("5.3")
def test_where_the_log_agrees_it_is_kept_and_what_the_snapshot_covers_is_committed() -> None:
    member = following()
    last = HISTORY[-1]
    snapshot = SnapshotId(index=last.last_index, term=last.term, chain=last.chain, time=0, size=40)
    effects = receive(member, snapshot)
    assert not [effect for effect in effects if isinstance(effect, InstallSnapshot)]
    assert [effect.index for effect in effects if isinstance(effect, Committed)] == [last.last_index]
    assert member.raft.log.base_index == 0


def test_what_is_committed_already_is_not_received() -> None:
    member = following()
    receive(member)
    older = SnapshotId(index=20, term=2, chain=200, time=2_000, size=90)
    effects = member.hear("b", piece(0, serial=7, snapshot=older))
    assert (stored(effects), told(effects)) == ([], [(20, 7, 90)])


def test_a_snapshot_of_no_use_is_asked_for_anew_only_when_the_leader_asks() -> None:
    member = following()
    member.hear("b", piece(0))
    assert told(member.step(SnapshotSpoiled(FAR))) == []
    assert told(member.hear("b", piece(0, size=0, serial=2))) == [(20, 2, 0)]
    assert stored(member.hear("b", piece(0, serial=3))) == [(0, 40)]


def test_reports_about_what_is_not_being_received_change_nothing() -> None:
    member = following()
    other = SnapshotId(index=30, term=2, chain=1, time=0, size=1)
    member.hear("b", piece(0))
    assert told(member.step(ChunkStored(other, 1), SnapshotSpoiled(other))) == []
    effects = member.step(SnapshotReceived(other, ABC))
    assert not [effect for effect in effects if isinstance(effect, InstallSnapshot)]
    assert member.raft.snapshot == other  # it is on disk, so it can be sent
    assert told(member.step(ChunkStored(FAR, 40))) == [(20, 1, 40)]
    assert told(member.step(ChunkStored(FAR, 40))) == []


def test_another_leader_begins_anew() -> None:
    member = following()
    member.hear("b", piece(0))
    member.step(ChunkStored(FAR, 40))
    effects = member.hear("c", piece(40, term=3))
    assert (stored(effects), told(effects)) == ([], [])  # not before the term is durable
    member.persist()
    assert told(member.hear("c", piece(40, term=3))) == [(20, 1, 0)]
    assert stored(member.hear("c", piece(0, term=3, serial=2))) == [(0, 40)]


def test_a_leader_of_an_earlier_term_is_told_of_this_one() -> None:
    member = following()
    effects = member.hear("c", piece(0, term=1))
    assert (stored(effects), told(effects)) == ([], [(20, 1, 0)])


def test_a_candidate_follows_whoever_sends_it_a_snapshot_in_its_term() -> None:
    member = Member(HISTORY, term=2, config=PIECES)
    member.campaign()
    assert told(member.hear("b", piece(0, term=2))) == []
    member.persist()
    assert told(member.hear("b", piece(0, term=2))) == [(20, 1, 0)]
    member.hear("b", piece(0, term=3))
    assert (member.raft.role.name, member.raft.leader) == ("follower", "b")


def test_one_whose_log_has_a_hole_is_refilled_by_a_snapshot_too() -> None:
    member = following(voting=False)
    receive(member)
    assert member.raft.log.base_index == 20
    assert isinstance(member.raft.role, Follower)
    assert member.raft.role.name == "passive"
    effects = member.hear("c", piece(0, term=3))
    assert [type(effect) for effect in effects] == [Persist, RoleChanged, RoleChanged]


def test_whoever_leads_when_a_snapshot_is_whole_keeps_its_own_log() -> None:
    member = leading()
    effects = member.step(ChunkStored(FAR, 40), SnapshotSpoiled(FAR), SnapshotLost(FAR), SnapshotReceived(FAR, ABC))
    assert not [effect for effect in effects if isinstance(effect, InstallSnapshot)]
    assert member.raft.log.base_index == 0


def test_a_snapshot_takes_nothing_back() -> None:
    member = following()
    receive(member)
    with pytest.raises(InvariantError, match="takes nothing back"):
        member.raft.go_on_from(FAR, ABC, None)


# -- where a member begins ---------------------------------------------------------------------------------------------


def core(log: LogView, snapshot: SnapshotId | None) -> Raft:
    return Raft(
        member_id="a",
        memberships=[ABC],
        read_membership=read_list,
        config=PIECES,
        log=log,
        term=2,
        vote="",
        log_time=0,
        random=lambda: 0.5,
        now_ms=0,
        snapshot=snapshot,
    )


def test_a_member_begins_with_what_its_snapshot_covers_committed_and_applied() -> None:
    log = LogView(10, 1, 100)
    log.append(11, 10, 2, 200, 40)
    raft = core(log, FAR)
    assert (raft.commit_index, raft.applied_index, raft.snapshot) == (20, 20, FAR)


@pytest.mark.parametrize(("base", "snapshot"), [(10, None), (21, FAR), (10, FAR)])
def test_a_log_that_its_snapshot_does_not_meet_is_refused(base: int, snapshot: SnapshotId | None) -> None:
    with pytest.raises(InvariantError, match="the log meets its snapshot"):
        core(LogView(base, 1, 100), snapshot)


def test_pieces_are_not_of_nothing() -> None:
    with pytest.raises(ConfigurationError, match="install_bytes_max must be positive"):
        RaftConfig(install_bytes_max=0)


def test_a_persisted_term_is_what_answers_wait_for() -> None:
    member = following()
    member.hear("c", piece(0, term=3))
    member.step(ChunkStored(FAR, 40))
    member.step(Persisted(3, ""))
    assert told(member.hear("c", piece(0, size=0, term=3, serial=4))) == [(20, 4, 40)]
