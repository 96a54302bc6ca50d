"""What a program learns of an operation: its result, or an error that says whether it happened and what to do."""

import asyncio
from asyncio import Future
from collections.abc import Callable
from typing import Any

import pytest

from copycat.errors import (
    ApplicationError,
    CommandTimeoutError,
    ConfigurationError,
    ConnectError,
    CopycatError,
    DecodeError,
    IndeterminateError,
    NoLeaderError,
    Outcome,
    OverloadedError,
    ProtocolError,
    QueryTimeoutError,
    RegistrationError,
    ResourceTypeError,
    SerializationError,
    SessionExpiredError,
    TooLargeError,
    UnknownResourceError,
    UnknownResourceTypeError,
    UsageError,
)
from copycat.raft.client.client import RaftClient
from copycat.raft.client.encoding import BATCH_COUNT_FIRST
from copycat.raft.client.submitter import PART_COUNT
from copycat.raft.protocol.entries import SESSION_WINDOW
from copycat.raft.protocol.operations import RESULT_TOO_LARGE, ConsistencyLevel, Failure
from copycat.raft.protocol.wire import Reason, Tag
from tests.raft.client.frames import answer, query_refused, read, results
from tests.raft.client.loops import Cluster, ask, now, say, turn, virtual
from tests.raft.client.model import HUGE, ODD


async def mute(cluster: Cluster, client: RaftClient) -> None:
    """From now on the servers take what is sent and say nothing."""
    for host in cluster.hosts.values():
        host.is_mute = True
    await turn()


# -- one turn, one frame -----------------------------------------------------------------------------------------------


@virtual
async def test_what_is_called_during_one_turn_leaves_in_one_frame() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        cluster.a.frames.clear()
        calls = [say(client, "a"), ask(client, "q"), say(client, "b"), ask(client, "r")]
        assert [await each for each in calls] == [2, 2, 3, 2]
        sent = [read(frame) for frame in cluster.a.frames]
        assert sent == [
            ("BATCH", 1, 0, ["a", "b"]),
            ("QUERY", 1, 2, 0, ConsistencyLevel.LINEARIZABLE, ["q", "r"]),
        ]


@virtual
async def test_of_a_turn_with_many_calls_a_part_has_left_before_it_is_over() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        connection = client._engine.connector.connection.shared.connection  # type: ignore[union-attr]  # it is open
        called: list[str] = []
        flushed: list[int] = []
        flush = connection.flush

        def note_flush() -> None:
            flushed.append(len(called))
            flush()

        connection.flush = note_flush  # type: ignore[method-assign]  # watched

        def call(start: Callable[[RaftClient, str], Future[Any]], what: str) -> Future[Any]:
            called.append(what)
            return start(client, what)

        cluster.a.frames.clear()
        calls = [call(say, str(number)) for number in range(PART_COUNT + 44)]
        calls += [call(ask, "q") for _ in range(PART_COUNT)]
        assert flushed == [PART_COUNT, 2 * PART_COUNT]

        assert await asyncio.gather(*calls[:300]) == list(range(2, 302))
        assert len(await asyncio.gather(*calls[300:])) == PART_COUNT
        sent = [(kind, len(operations)) for kind, *_, operations in map(read, cluster.a.frames)]
        assert BATCH_COUNT_FIRST == 128  # in a batch, until results were seen
        assert sent == [("BATCH", 128), ("BATCH", 128), ("BATCH", 44), ("QUERY", 128), ("QUERY", 84), ("QUERY", 44)]


@virtual
async def test_arguments_are_taken_at_the_call() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        words = ["before"]
        called: Future[int] = client.command(0, 0, 1, words)
        words[0] = "after"
        await called
        assert list(cluster.model.executed) == ["before"]


# -- deadlines ---------------------------------------------------------------------------------------------------------


@virtual
async def test_a_command_sent_and_unanswered_in_time_may_have_happened_and_can_be_waited_for() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        await mute(cluster, client)
        started = now()
        called = say(client, "a", timeout=1.5)
        with pytest.raises(
            CommandTimeoutError, match=r"^say 'a' was sent, but no answer came in time\. It may or may"
        ) as caught:
            await called
        assert 1.5 <= now() - started < 1.6
        assert "await error.operation" in str(caught.value)
        assert caught.value.outcome is Outcome.UNKNOWN
        assert isinstance(caught.value, TimeoutError)
        cluster.a.is_mute = False
        cluster.a.announce()
        assert await caught.value.operation == cluster.model.executed["a"]


@virtual
async def test_of_a_batch_only_what_is_overdue_is_given_up() -> None:
    async with Cluster() as cluster:
        client = await cluster.client(timeout=None)
        await mute(cluster, client)
        patient, hurried, calm = say(client, "a"), say(client, "b", timeout=0.5), say(client, "c", timeout=60)
        with pytest.raises(CommandTimeoutError) as caught:
            await hurried
        assert not patient.done()
        cluster.a.is_mute = False
        cluster.a.announce()
        assert [await patient, await caught.value.operation, await calm] == [2, 3, 4]


@virtual
async def test_a_query_unanswered_in_time_is_safe_to_repeat_and_later_ones_go_on() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        cluster.a.drop = lambda frame: frame[0] == Tag.ANSWER
        overdue = ask(client, "q", timeout=0.5)
        await turn()
        cluster.a.drop = lambda frame: False
        behind = ask(client, "r", timeout=None)
        with pytest.raises(QueryTimeoutError, match=r"^ask 'q': no answer in time, safe to repeat; connected to a"):
            await overdue
        started = now()
        assert await behind == 0
        assert now() == started


@virtual
async def test_an_unsent_command_is_taken_back_at_its_deadline_and_never_happens() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        cluster.model.leader = ""
        cluster.a.announce()
        await turn()
        with pytest.raises(NoLeaderError) as caught:
            await say(client, "a", timeout=1)
        assert str(caught.value) == (
            "say 'a': not sent: no leader answered. a (a:1): has no leader. "
            "Check the addresses, or run: copycat status a:1"
        )
        assert caught.value.outcome is Outcome.NOT_APPLIED
        cluster.model.leader = "a"
        cluster.a.announce()
        await say(client, "b")
        assert list(cluster.model.executed) == ["b"]


@virtual
async def test_an_unsent_command_of_a_client_whose_servers_are_gone_says_why_each_is_of_no_use() -> None:
    async with Cluster("ab") as cluster:
        client = await cluster.client()
        for host in cluster.hosts.values():
            await host.close()
        await turn()
        with pytest.raises(NoLeaderError, match=r"connection refused\..*, or run: copycat status a:1,b:1"):
            await say(client, "a", timeout=1)


@virtual
async def test_a_command_called_before_any_server_ever_answered_says_that_none_did() -> None:
    async with Cluster("") as cluster:
        client = cluster.new_client(["x:1"])
        client._start()
        with pytest.raises(ConnectError, match=r"'a': not sent: no server answered\. x:1: connection refu") as caught:
            await say(client, "a", timeout=1)
        assert caught.value.outcome is Outcome.NOT_APPLIED
        assert caught.value.tried == {"x:1": "connection refused"}


@virtual
async def test_a_command_beyond_the_window_is_taken_back_at_its_deadline_and_says_why() -> None:
    async with Cluster() as cluster:
        client = await cluster.client(timeout=None)
        await mute(cluster, client)
        sent = [say(client, f"a{number}") for number in range(SESSION_WINDOW)]
        with pytest.raises(OverloadedError, match="'b': not sent: 8192 earlier commands are unanswered") as caught:
            await say(client, "b", timeout=1)
        assert caught.value.outcome is Outcome.NOT_APPLIED
        cluster.a.is_mute = False
        cluster.a.announce()
        await asyncio.gather(*sent)
        await say(client, "c")
        assert "b" not in cluster.model.executed
        assert len(cluster.model.executed) == SESSION_WINDOW + 1


@virtual
async def test_a_command_that_waits_for_a_session_says_whose_answer_is_missing() -> None:
    async with Cluster() as cluster:
        cluster.model.is_overloaded = True
        client = cluster.new_client()
        client._start()
        missing = r"say 'a': not sent: no leader answered\. a \(a:1\): names a as leader, which has not answered yet"
        with pytest.raises(NoLeaderError, match=missing):
            await say(client, "a", timeout=1)


@virtual
async def test_without_a_timeout_an_operation_waits_for_ever() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        await mute(cluster, client)
        called, asked = say(client, "a", timeout=None), ask(client, timeout=None)
        await asyncio.sleep(100)
        assert not called.done()
        cluster.a.is_mute = False
        cluster.a.announce()
        assert [await called, await asked]


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
@virtual
async def test_a_timeout_that_is_not_positive_is_refused_at_the_call(timeout: float) -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        for call in (say, ask):
            with pytest.raises(ConfigurationError, match="a positive number of seconds, or None for ever; not"):
                call(client, "a", timeout=timeout)
        await turn()
        assert cluster.model.executed == {}


# -- results that are errors -------------------------------------------------------------------------------------------


class Answering(Cluster):
    """Its one server answers everything with `result`."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.a.drop = self._replace
        self._result = result

    def _replace(self, frame: bytes) -> bool:
        if frame[0] == Tag.RESULTS:
            self.a.tell(results(1, self._result, session=self.clients[0].session_id))
        elif frame[0] == Tag.ANSWER:
            self.a.tell(answer(1, 9, self._result))
        return frame[0] in (Tag.RESULTS, Tag.ANSWER)


@virtual
async def test_what_the_state_machine_raised_is_an_application_error() -> None:
    for call in (say, ask):
        async with Answering(Failure("ValueError", "cannot add -1")) as cluster:
            client = await cluster.client()
            with pytest.raises(ApplicationError, match=r"^cannot add -1$") as caught:
                await call(client, "a")
            assert (caught.value.kind, caught.value.outcome) == ("ValueError", Outcome.APPLIED)


@pytest.mark.parametrize(
    "error",
    [
        ConfigurationError,
        ResourceTypeError,
        SerializationError,
        TooLargeError,
        UnknownResourceError,
        UnknownResourceTypeError,
        UsageError,
    ],
)
@virtual
async def test_what_the_servers_refuse_to_execute_is_an_error_of_ours(error: type[CopycatError]) -> None:
    async with Answering(Failure(error.__name__, "the words")) as cluster:
        client = await cluster.client()
        with pytest.raises(error, match=r"^the words$") as caught:
            await ask(client)
        assert type(caught.value) is error
        assert caught.value.outcome is Outcome.NOT_APPLIED


@virtual
async def test_a_commands_serialization_error_may_come_after_it_was_executed() -> None:
    async with Answering(Failure("SerializationError", "the result cannot be sent")) as cluster:
        client = await cluster.client()
        with pytest.raises(SerializationError) as caught:
            await say(client, "a")
        assert caught.value.outcome is Outcome.UNKNOWN


@virtual
async def test_a_result_too_large_to_be_sent_says_whether_it_was_applied() -> None:
    for call, outcome in ((say, Outcome.APPLIED), (ask, Outcome.NOT_APPLIED)):
        async with Answering(Failure(RESULT_TOO_LARGE, "20 MB")) as cluster:
            client = await cluster.client()
            with pytest.raises(TooLargeError, match="too large to be sent: 20 MB") as caught:
                await call(client, "a")
            assert caught.value.outcome is outcome


def raise_decode_error(_value: Any) -> Any:
    raise RegistrationError("type 7 is not registered")


@virtual
async def test_a_result_that_does_not_decode_says_whether_it_was_applied() -> None:
    for call, outcome in ((say, Outcome.APPLIED), (ask, Outcome.NOT_APPLIED)):
        async with Cluster() as cluster:
            client = await cluster.client()
            with pytest.raises(DecodeError, match=r"(say|ask) 'a': the result cannot be decoded: ZeroD") as caught:
                await call(client, "a", decode=lambda value: 1 // 0)
            assert caught.value.outcome is outcome
            assert isinstance(caught.value.__cause__, ZeroDivisionError)
            with pytest.raises(RegistrationError, match="type 7") as told:
                await call(client, "b", decode=raise_decode_error)
            assert told.value.outcome is outcome
            assert await call(client, "c", decode=str) in ("4", "0")


@virtual
async def test_one_result_that_does_not_decode_spoils_no_other() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        wrong, right = say(client, "a", decode=lambda value: 1 // 0), say(client, "b")
        assert await right == 3
        with pytest.raises(DecodeError):
            await wrong


# -- refused, and the end of the session -------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "error"), [(HUGE, TooLargeError), (ODD, ProtocolError)])
@virtual
async def test_what_the_servers_refuse_did_not_happen_and_the_next_session_goes_on(
    kind: str, error: type[CopycatError]
) -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        cluster.a.drop = lambda frame: frame[0] == Tag.RESULTS
        before = say(client, "before")
        await turn()
        refused = say(client, kind)
        with pytest.raises(error, match=f"say '{kind}': the servers refuse it: ") as caught:
            await refused
        assert caught.value.outcome is Outcome.NOT_APPLIED
        with pytest.raises(IndeterminateError, match=r"^say 'before': sent, but the session ended \(") as unknown:
            await before
        assert unknown.value.outcome is Outcome.UNKNOWN
        cluster.a.drop = lambda frame: False
        await say(client, "after")
        assert list(cluster.model.executed) == ["before", "after"]


@virtual
async def test_a_query_the_servers_refuse_fails_with_their_words_and_the_next_goes_on() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        for reason, error in ((Reason.MALFORMED, ProtocolError), (Reason.TOO_LARGE, TooLargeError)):
            cluster.a.is_mute = True
            asked = ask(client, "q")
            await turn()
            request = read(cluster.a.frames[-1])[1]
            cluster.a.is_mute = False
            cluster.a.tell(query_refused(request, reason, "not this one"))
            with pytest.raises(error, match=r"^ask 'q': the servers refuse it: not this one$"):
                await asked
            assert await ask(client) == 0


@virtual
async def test_when_the_session_ends_sent_commands_are_in_doubt_unsent_ones_are_not_and_queries_go_on() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        cluster.a.drop = lambda frame: frame[0] == Tag.RESULTS
        sent = say(client, "sent")
        cancelled = say(client, "cancelled")
        await turn()
        cluster.model.leader = ""
        cluster.a.announce()
        await turn()
        unsent, asked = say(client, "unsent"), ask(client)
        cancelled.cancel()
        cluster.a.tell(cluster.model.end(client.session_id))
        with pytest.raises(IndeterminateError, match=r"^say 'sent': sent, but the session ended \(expired\) una"):
            await sent
        with pytest.raises(
            SessionExpiredError, match=r"^say 'unsent': not applied; the session ended: expired$"
        ) as caught:
            await unsent
        assert caught.value.outcome is Outcome.NOT_APPLIED
        cluster.a.drop = lambda frame: False
        cluster.model.leader = "a"
        cluster.a.announce()
        assert await asked == 2
        assert list(cluster.model.executed) == ["sent", "cancelled"]
