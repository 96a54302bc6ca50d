"""What a session keeps of its results, against a list that is searched from end to end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copycat.errors import InvariantError
from copycat.raft.machine.sessions import Run, ServerSession, Sessions

batches = st.tuples(st.just("execute"), st.integers(1, 4))
acks = st.tuples(st.just("acknowledge"), st.integers(0, 30))
events = st.tuples(st.just("publish"), st.just(0))


@given(st.lists(batches | acks | events, max_size=30))
def test_results_are_kept_until_all_of_their_batch_is_acknowledged(steps: list[tuple[str, int]]) -> None:
    session = ServerSession(1, b"nonce", b"secret", 5000)
    sequence = ack = index = event_index = 0
    kept: list[Run] = []
    for step, number in steps:
        index += number
        if step == "execute":
            run = (sequence + 1, number, index, event_index, b"%d" % index)
            assert session.executed(sequence + 1, number, index, run[-1]) == run
            kept.append(run)
            sequence += number
            assert session.activity_index == index
        elif step == "acknowledge":
            session.acknowledge(number)
            ack = max(ack, min(number, sequence))
            kept = [run for run in kept if run[0] + run[1] - 1 > ack]
        else:
            session.publish(index, b"event")
            event_index = index
        assert (session.sequence, session.ack, session.event_index) == (sequence, ack, event_index)
        assert [*session.runs] == kept
        assert [session.run_of(run[0], run[1]) for run in kept] == kept


@pytest.mark.parametrize("first", [1, 3])
def test_a_batch_out_of_its_turn_breaks_an_invariant(first: int) -> None:
    session = ServerSession(1, b"nonce", b"secret", 5000)
    session.executed(1, 1, 5, b"")
    with pytest.raises(InvariantError, match="sequences are executed in order"):
        session.executed(first, 1, 6, b"")
    assert session.sequence == 1


def test_a_session_is_found_by_its_id_while_it_is_open() -> None:
    sessions = Sessions()
    session = ServerSession(7, b"nonce", b"secret", 5000)
    sessions.add(session)
    assert sessions.get(7) is session
    sessions.remove(session, expired=False)
    assert sessions.get(7) is None
