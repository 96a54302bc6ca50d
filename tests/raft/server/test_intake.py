"""What a leader lets into the log: protocol §5.1 to §5.4."""

import random
from typing import Any

import pytest

from copycat.errors import ProtocolError
from copycat.raft.machine.sessions import ServerSession, Sessions
from copycat.raft.protocol.entries import ITEM_BYTES, KEEP_ALIVE, SESSION_WINDOW, End, ItemKind, iterate_items
from copycat.raft.protocol.wire import (
    HEADER_BATCH,
    HEADER_ENDED,
    HEADER_KEEP_ALIVE,
    HEADER_REGISTER,
    HEADER_REGISTER_REFUSED,
    HEADER_REJECTED,
    HEADER_RESULTS,
    HEADER_UNREGISTER,
    KEPT_ALIVE,
    Reason,
    Tag,
    encode_operations,
)
from copycat.raft.server.contacts import propose_expiries
from copycat.raft.server.intake import Intake
from copycat.raft.server.limits import ServerLimits

SECRET = b"s" * 16


class Wire:
    """An origin that keeps what it is sent."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def send(self, frame: bytes) -> None:
        self.frames.append(frame)

    def send_many(self, frames: list[bytes]) -> None:
        self.frames += frames

    def flush(self) -> None:
        """What was sent is there already."""

    def take(self) -> list[bytes]:
        frames, self.frames = self.frames, []
        return frames


def batch(session: int, first: int, count: int = 1, ack: int = 0, blob: bytes | None = None) -> bytes:
    operations: list[Any] = [[0, 0, 1, b"x"]] * count
    blob = encode_operations(operations) if blob is None else blob
    return HEADER_BATCH.pack(Tag.BATCH, session, first, ack, count) + blob


def keep_alive(*sessions: int, secret: bytes = SECRET, stamp: int = 0) -> bytes:
    frames = [KEPT_ALIVE.pack(session, secret, 0, 0, stamp) for session in sessions]
    return HEADER_KEEP_ALIVE.pack(Tag.KEEP_ALIVE, len(frames)) + b"".join(frames)


class Room:
    """A disk with room, until it is said that there is none."""

    problem: str | None = None


class Desk:
    """An intake with session 5 open and bound to `wire`, at a time that stands still until moved."""

    def __init__(self, limits: ServerLimits | None = None) -> None:
        self.now = 1000
        self.sessions = Sessions()
        self.session = ServerSession(5, b"n" * 16, SECRET, 5000)
        self.sessions.add(self.session)
        self.wire = Wire()
        self.space = Room()
        self.intake = Intake(
            sessions=self.sessions,
            limits=limits or ServerLimits(),
            space=self.space,
            chance=random.Random(1),
            now_ms=lambda: self.now,
        )
        self.intake.keep_alive(self.wire, keep_alive(5))
        self.intake.take()

    def items(self) -> list[tuple[int, int, int, int]]:
        """(kind, session, sequence, count) of all that was let in."""
        return [
            (kind, session, sequence, count)
            for proposed in self.intake.take()
            for kind, session, sequence, _, count, _ in iterate_items(proposed.body)
        ]


def test_batches_that_follow_one_another_are_let_in_before_any_is_applied() -> None:
    desk = Desk()
    desk.intake.batch(desk.wire, batch(5, 1, 3))
    desk.intake.batch(desk.wire, batch(5, 4))
    assert desk.items() == [(ItemKind.COMMANDS, 5, 1, 3), (ItemKind.COMMANDS, 5, 4, 1)]
    assert desk.wire.take() == []


def test_a_gap_is_refused_with_the_place_to_go_on_from_and_nothing_enters() -> None:
    desk = Desk()
    desk.intake.batch(desk.wire, batch(5, 2))
    desk.intake.batch(desk.wire, batch(5, 3))
    assert [HEADER_REJECTED.unpack_from(frame) for frame in desk.wire.take()] == [
        (Tag.REJECTED, 5, 1, Reason.GAP),
        (Tag.REJECTED, 5, 1, Reason.GAP),
    ]
    assert desk.items() == []


def test_a_batch_executed_before_is_answered_again_and_not_let_in_again() -> None:
    desk = Desk()
    desk.session.executed(1, 2, 40, b"results")
    desk.intake.batch(desk.wire, batch(5, 1, 2))
    (frame,) = desk.wire.take()
    assert HEADER_RESULTS.unpack_from(frame) == (Tag.RESULTS, 5, 1, 2, 40, 0)
    assert frame.endswith(b"results")
    assert desk.items() == []


def test_a_batch_in_flight_is_not_let_in_twice() -> None:
    desk = Desk()
    desk.intake.batch(desk.wire, batch(5, 1))
    desk.intake.batch(desk.wire, batch(5, 1))
    assert len(desk.items()) == 1
    assert desk.wire.take() == []


def test_a_session_is_used_only_through_the_newest_connection_that_proved_its_secret() -> None:
    desk = Desk()
    newer = Wire()
    desk.intake.batch(newer, batch(5, 1))
    assert desk.items() == []
    desk.intake.keep_alive(newer, keep_alive(5))
    desk.intake.batch(desk.wire, batch(5, 1))
    assert [kind for kind, *_ in desk.items()] == [ItemKind.KEEP_ALIVE]
    desk.intake.batch(newer, batch(5, 1))
    assert [kind for kind, *_ in desk.items()] == [ItemKind.COMMANDS]


@pytest.mark.parametrize(
    "send",
    [
        lambda intake, wire: intake.keep_alive(wire, keep_alive(5, secret=b"?" * 16)),
        lambda intake, wire: intake.unregister(wire, HEADER_UNREGISTER.pack(Tag.UNREGISTER, 5, b"?" * 16)),
    ],
)
def test_a_wrong_secret_is_told_that_there_is_no_such_session(send: Any) -> None:
    desk, stranger = Desk(), Wire()
    send(desk.intake, stranger)
    assert [HEADER_ENDED.unpack(frame) for frame in stranger.take()] == [(Tag.ENDED, 5, End.UNKNOWN)]
    assert desk.items() == []
    assert desk.intake.origin_of(5) is desk.wire


def test_an_unknown_session_is_told_so() -> None:
    desk = Desk()
    desk.intake.batch(desk.wire, batch(6, 1))
    assert [HEADER_ENDED.unpack(frame) for frame in desk.wire.take()] == [(Tag.ENDED, 6, End.UNKNOWN)]


def refusal_of(desk: Desk, frame: bytes) -> tuple[Reason, str]:
    desk.intake.batch(desk.wire, frame)
    (answer,) = desk.wire.take()
    _, _, sequence, reason = HEADER_REJECTED.unpack_from(answer)
    assert sequence == 1
    assert desk.items() == []
    return Reason(reason), answer[HEADER_REJECTED.size :].decode()


def test_a_batch_whose_count_is_not_that_of_its_operations_is_refused() -> None:
    assert refusal_of(Desk(), batch(5, 1, 3, blob=encode_operations([[0, 0, 1]])))[0] == Reason.MALFORMED
    assert refusal_of(Desk(), batch(5, 1, 0))[0] == Reason.MALFORMED
    assert refusal_of(Desk(), batch(5, 1, 1, blob=b""))[0] == Reason.MALFORMED
    assert refusal_of(Desk(), batch(5, 1, 1, blob=b"\xc0"))[0] == Reason.MALFORMED


def test_the_count_is_read_in_every_form_it_may_have() -> None:
    for count in (15, 16, 300):
        desk = Desk()
        desk.intake.batch(desk.wire, batch(5, 1, count))
        assert desk.items() == [(ItemKind.COMMANDS, 5, 1, count)]
    desk = Desk()
    blob = b"\xdd\x00\x00\x00\x01" + encode_operations([[0, 0, 1]])[1:]
    desk.intake.batch(desk.wire, batch(5, 1, 1, blob=blob))
    assert desk.items() == [(ItemKind.COMMANDS, 5, 1, 1)]


def test_a_batch_too_large_is_refused_naming_both_sizes() -> None:
    desk = Desk(ServerLimits(max_batch_bytes=100))
    reason, detail = refusal_of(desk, batch(5, 1, blob=encode_operations([[0, 0, 1, b"x" * 100]])))
    assert reason == Reason.TOO_LARGE
    assert "exceeds the limit of 100" in detail


def test_commands_beyond_the_window_wait_for_acknowledged_results() -> None:
    desk = Desk()
    assert refusal_of(desk, batch(5, 1, SESSION_WINDOW + 1))[0] == Reason.OVERLOADED
    desk.intake.batch(desk.wire, batch(5, 1, SESSION_WINDOW))
    assert len(desk.items()) == 1


def test_commands_are_refused_while_too_many_bytes_wait_for_the_disk() -> None:
    desk = Desk(ServerLimits(max_pending_bytes=20))
    desk.intake.batch(desk.wire, batch(5, 1))
    desk.intake.batch(desk.wire, batch(5, 2, 2))
    (answer,) = desk.wire.take()
    assert HEADER_REJECTED.unpack_from(answer) == (Tag.REJECTED, 5, 2, Reason.OVERLOADED)
    assert len(desk.items()) == 1
    desk.intake.batch(desk.wire, batch(5, 2))  # they were handed over: there is room again
    assert len(desk.items()) == 1


def test_without_room_each_new_batch_is_refused_by_its_own_number_also_behind_a_gap() -> None:
    desk = Desk()
    desk.session.executed(1, 2, 40, b"results")
    desk.intake.batch(desk.wire, batch(5, 3))
    desk.space.problem = "no room"
    for first in (1, 3, 4, 7):  # executed, in flight, next, behind a gap
        desk.intake.batch(desk.wire, batch(5, first, 2 if first == 1 else 1))
    executed, *refused = desk.wire.take()
    assert executed[0] == Tag.RESULTS
    assert [HEADER_REJECTED.unpack_from(frame) for frame in refused] == [
        (Tag.REJECTED, 5, 4, Reason.NO_SPACE),
        (Tag.REJECTED, 5, 7, Reason.NO_SPACE),
    ]
    assert all(frame.endswith(b"no room") for frame in refused)
    assert len(desk.items()) == 1
    desk.space.problem = None
    desk.intake.batch(desk.wire, batch(5, 4))
    assert len(desk.items()) == 1


def test_without_room_everything_but_commands_is_let_in() -> None:
    desk = Desk()
    desk.space.problem = "no room"
    desk.intake.keep_alive(desk.wire, keep_alive(5))
    desk.intake.register(desk.wire, HEADER_REGISTER.pack(Tag.REGISTER, b"r" * 16, 5000))
    desk.intake.unregister(desk.wire, HEADER_UNREGISTER.pack(Tag.UNREGISTER, 5, SECRET))
    desk.intake.add(ItemKind.TICK)
    assert sorted(kind for kind, *_ in desk.items()) == [
        ItemKind.REGISTER,
        ItemKind.KEEP_ALIVE,
        ItemKind.UNREGISTER,
        ItemKind.TICK,
    ]


def test_without_room_a_query_waits_for_no_command_that_was_not_let_in() -> None:
    desk = Desk()
    desk.intake.batch(desk.wire, batch(5, 1))
    assert desk.intake.why_not(5, 2) is None
    desk.space.problem = "no room"
    assert [desk.intake.why_not(5, sequence) for sequence in (0, 1, 2)] == [None, None, "no room"]
    assert desk.intake.why_not(77, 1) is None  # of a session that is told that it has ended


def test_a_batch_larger_than_what_may_wait_is_let_in_alone() -> None:
    desk = Desk(ServerLimits(max_pending_bytes=20))
    desk.intake.batch(desk.wire, batch(5, 1, 100))
    assert desk.wire.take() == []
    assert len(desk.items()) == 1


def test_keep_alives_of_a_turn_become_one_item_with_one_outcome_a_session() -> None:
    desk = Desk()
    desk.sessions.add(ServerSession(9, b"m" * 16, SECRET, 5000))
    desk.intake.keep_alive(desk.wire, keep_alive(5))
    desk.intake.keep_alive(desk.wire, keep_alive(5, 9))
    (proposed,) = desk.intake.take()
    ((kind, *_, blob),) = iterate_items(proposed.body)
    assert kind == ItemKind.KEEP_ALIVE
    assert [session for session, _, _ in KEEP_ALIVE.iter_unpack(blob)] == [5, 9]


def test_a_keep_alive_of_another_length_than_it_says_is_not_readable() -> None:
    desk = Desk()
    for frame in (keep_alive(5)[:-1], HEADER_KEEP_ALIVE.pack(Tag.KEEP_ALIVE, 3), b"\x13"):
        with pytest.raises(ProtocolError):
            desk.intake.keep_alive(desk.wire, frame)


def test_a_registration_answers_whoever_asked_last_and_binds_the_session() -> None:
    desk = Desk()
    first, second = Wire(), Wire()
    for wire in (first, second):
        desk.intake.register(wire, HEADER_REGISTER.pack(Tag.REGISTER, b"q" * 16, 5000))
    assert [kind for kind, *_ in desk.items()] == [ItemKind.REGISTER] * 2
    session = ServerSession(77, b"q" * 16, SECRET, 5000)
    desk.sessions.add(session)
    assert desk.intake.registered(session) is second
    assert desk.intake.origin_of(77) is second
    assert desk.intake.registered(session) is None


@pytest.mark.parametrize("timeout_ms", [0, 99, 4_000_000])
def test_a_session_timeout_outside_the_limits_is_refused_naming_them(timeout_ms: int) -> None:
    desk = Desk()
    desk.intake.register(desk.wire, HEADER_REGISTER.pack(Tag.REGISTER, b"q" * 16, timeout_ms))
    (answer,) = desk.wire.take()
    assert HEADER_REGISTER_REFUSED.unpack_from(answer) == (Tag.REGISTER_REFUSED, b"q" * 16, Reason.MALFORMED)
    assert b"100 to 3600000 ms" in answer
    assert desk.items() == []


def test_contact_counts_from_commands_and_keep_alives_that_were_let_in() -> None:
    desk = Desk()
    desk.now = 2000
    desk.intake.batch(desk.wire, batch(5, 9))  # a gap: not let in
    assert desk.intake.contact_ms[5] == 1000
    desk.intake.batch(desk.wire, batch(5, 1))
    assert desk.intake.contact_ms[5] == 2000


def test_a_keep_alive_that_a_later_one_has_overtaken_takes_the_session_from_nobody() -> None:
    desk, other = Desk(), Wire()
    desk.intake.keep_alive(other, keep_alive(5, stamp=20))
    desk.now = 2000
    desk.intake.keep_alive(desk.wire, keep_alive(5, stamp=19))
    assert desk.intake.origin_of(5) is other
    assert desk.intake.stamp_of(5) == 20
    assert desk.intake.contact_ms[5] == 1000
    desk.intake.keep_alive(desk.wire, keep_alive(5, stamp=20))  # sent twice: the newest connection wins
    assert desk.intake.origin_of(5) is desk.wire


def expired(desk: Desk) -> list[int]:
    """The sessions whose end is proposed now."""
    propose_expiries(desk.intake, desk.sessions, desk.now)
    return [session for kind, session, *_ in desk.items() if kind == ItemKind.EXPIRE]


def test_a_session_is_proposed_to_end_once_its_timeout_has_passed_in_silence_and_again_after_another() -> None:
    desk = Desk()
    seen = []
    for desk.now in (1000, 6000, 6001, 6002, 11001, 11002):
        seen.append(expired(desk))
    assert seen == [[], [], [5], [], [], [5]]


def test_whoever_was_heard_meanwhile_has_the_whole_of_its_time() -> None:
    desk = Desk()
    assert expired(desk) == []
    desk.now = 4000
    desk.intake.batch(desk.wire, batch(5, 1))
    seen = []
    for desk.now in (6001, 9000, 9001):
        seen.append(expired(desk))
    assert seen == [[], [], [5]]


def test_a_shorter_session_that_begins_meanwhile_ends_no_later_than_its_own_time() -> None:
    desk = Desk()
    assert expired(desk) == []
    desk.now = 1500
    session = ServerSession(77, b"q" * 16, SECRET, 300)
    desk.sessions.add(session)
    desk.intake.registered(session)
    seen = []
    for desk.now in (1800, 1801):
        seen.append(expired(desk))
    assert seen == [[], [77]]


def test_a_turn_is_cut_into_blocks_and_a_larger_item_goes_alone() -> None:
    desk = Desk(ServerLimits(max_block_bytes=200))
    for sequence, size in ((1, 10), (2, 10), (3, 500), (4, 10)):
        blob = encode_operations([[0, 0, 1, b"x" * size]])
        desk.intake.batch(desk.wire, batch(5, sequence, blob=blob))
    proposals = desk.intake.take()
    assert [proposed.count for proposed in proposals] == [2, 1, 1]
    assert not desk.intake.waiting


@pytest.mark.parametrize(("short_of", "counts"), [(0, [3]), (1, [2, 1])])
def test_what_fits_a_block_to_the_last_byte_is_one(short_of: int, counts: list[int]) -> None:
    blob = encode_operations([[0, 0, 1, b"x" * 10]])
    desk = Desk(ServerLimits(max_block_bytes=3 * (ITEM_BYTES + len(blob)) - short_of))
    for sequence in (1, 2, 3):
        desk.intake.batch(desk.wire, batch(5, sequence, blob=blob))
    proposals = desk.intake.take()
    assert [proposed.count for proposed in proposals] == counts
    assert [item[2] for proposed in proposals for item in iterate_items(proposed.body)] == [1, 2, 3]
    assert desk.intake.take() == []
