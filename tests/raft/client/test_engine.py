"""A client between open and close: its states, its patience with servers, and sessions that end."""

import asyncio
import itertools

import pytest

from copycat.errors import (
    ClosedError,
    ConfigurationError,
    IndeterminateError,
    SessionExpiredError,
)
from copycat.raft.client.client import RaftClient
from copycat.raft.client.engine import PATIENCE_SECONDS_MAX, PATIENCE_SECONDS_MIN
from copycat.raft.client.states import ClientState, Recovery
from copycat.raft.protocol.wire import Tag
from tests.raft.client.frames import names
from tests.raft.client.loops import Cluster, ask, now, reach, say, turn, virtual

CONNECTED, SUSPENDED, EXPIRED, CLOSED = ClientState


def states_of(client: RaftClient) -> list[ClientState]:
    """Every state from now on, as it is told to listeners."""
    heard: list[ClientState] = []
    client.on_state_change(heard.append)
    return heard


# -- states ------------------------------------------------------------------------------------------------------------


@virtual
async def test_a_client_is_suspended_until_its_session_begins_and_closed_in_the_end() -> None:
    async with Cluster() as cluster:
        client = cluster.new_client()
        heard = states_of(client)
        assert client.state is CLOSED
        await client.open()
        assert client.state is CONNECTED
        await client.close()
        assert heard == [SUSPENDED, CONNECTED, CLOSED]


@virtual
async def test_without_a_connection_it_is_suspended_and_connected_again_when_the_session_is_confirmed() -> None:
    async with Cluster("ab") as cluster:
        client = await cluster.client()
        heard, session = states_of(client), client.session_id
        cluster.host_of(client).hang_up()
        await reach(client, SUSPENDED)
        assert client.connected_to is None
        await reach(client, CONNECTED)
        assert heard == [SUSPENDED, CONNECTED]
        assert client.session_id == session


@virtual
async def test_without_a_leader_it_is_suspended_although_connected() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        cluster.model.leader = ""
        cluster.a.announce()
        await reach(client, SUSPENDED)
        assert (client.connected_to, client.leader) == ("a", None)
        cluster.model.leader, cluster.model.term = "b", 2
        cluster.a.announce()
        await reach(client, CONNECTED)
        assert client.leader == "b"


@virtual
async def test_a_closed_listener_hears_nothing_more() -> None:
    async with Cluster() as cluster:
        client = cluster.new_client()
        heard: list[ClientState] = []
        listener = client.on_state_change(heard.append)
        await client.open()
        listener.close()
        await client.close()
        assert heard == [SUSPENDED, CONNECTED]


# -- the session ends --------------------------------------------------------------------------------------------------


@virtual
async def test_when_the_servers_end_the_session_another_begins(caplog: pytest.LogCaptureFixture) -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        await say(client, "a")
        heard, before, floor = states_of(client), client.session_id, client.floor
        cluster.a.tell(cluster.model.end(before))
        await reach(client, EXPIRED)
        await reach(client, CONNECTED)
        assert heard == [EXPIRED, CONNECTED]
        assert client.session_id != before
        assert client.floor == floor
        assert [record.getMessage() for record in caplog.records] == ["the session was lost: expired"]
        assert await say(client, "b") > client.session_id


@virtual
async def test_a_session_that_ended_while_the_client_was_away_is_replaced() -> None:
    async with Cluster("ab") as cluster:
        client = await cluster.client()
        heard, before = states_of(client), client.session_id
        cluster.host_of(client).hang_up()
        cluster.model.end(before)
        await reach(client, EXPIRED)
        await reach(client, CONNECTED)
        assert heard == [SUSPENDED, EXPIRED, CONNECTED]
        assert client.session_id != before


@virtual
async def test_the_strict_close_instead_and_fail_what_waits() -> None:
    async with Cluster() as cluster:
        client = await cluster.client(recovery=Recovery.CLOSE)
        heard = states_of(client)
        cluster.a.drop = lambda frame: frame[0] in (Tag.RESULTS, Tag.ANSWER)
        sent, asked = say(client, "a"), ask(client, "q")
        await turn()
        cluster.a.tell(cluster.model.end(client.session_id))
        with pytest.raises(IndeterminateError, match=r"^say 'a': sent, but the session ended \(expired\)"):
            await sent
        with pytest.raises(SessionExpiredError, match=r"^ask 'q': the session ended: expired$"):
            await asked
        await reach(client, CLOSED)
        assert heard == [EXPIRED, CLOSED]
        for call in (say, ask):
            with pytest.raises(ClosedError, match="the client is closed"):
                call(client, "late")
        await client.close()
        await turn()
        assert cluster.a.connections == []


@virtual
async def test_servers_that_refuse_the_session_say_why_and_the_client_is_closed() -> None:
    async with Cluster() as cluster:
        cluster.model.registration_refusal = "5000 ms is outside this server's limits"
        client = cluster.new_client()
        with pytest.raises(ConfigurationError, match="the servers refuse the session: 5000 ms is outside this"):
            await client.open()
        assert client.state is CLOSED


@virtual
async def test_servers_that_refuse_the_next_session_close_the_client(caplog: pytest.LogCaptureFixture) -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        cluster.model.registration_refusal = "the limits are others now"
        cluster.a.tell(cluster.model.end(client.session_id))
        await reach(client, CLOSED)
        assert caplog.records[-1].getMessage() == (
            "the client has stopped: the servers refuse the session: the limits are others now"
        )
        with pytest.raises(ClosedError, match="the client is closed"):
            say(client, "a")


# -- patience ----------------------------------------------------------------------------------------------------------


@virtual
async def test_a_server_that_stops_answering_is_left_for_another() -> None:
    async with Cluster("ab") as cluster:
        client = await cluster.client()
        mute = cluster.host_of(client)
        mute.is_mute = True
        started = now()
        assert await say(client, "a")
        assert cluster.host_of(client) is not mute
        assert PATIENCE_SECONDS_MIN <= now() - started < PATIENCE_SECONDS_MIN + 0.1
        assert client._engine is not None
        assert client._engine.connector.tried[mute.address] == "no answer for 1 s"


@virtual
@pytest.mark.parametrize("session_timeout", [0.2, 1, 3])
async def test_a_server_that_falls_silent_is_left_while_the_session_can_be_kept_elsewhere(
    session_timeout: float,
) -> None:
    async with Cluster("ab") as cluster:
        cluster.model.timeout_ms = round(session_timeout * 1000)
        client = await cluster.client(session_timeout=session_timeout)
        for _ in range(5):
            await asyncio.sleep(session_timeout)
            mute = cluster.host_of(client)
            mute.is_mute = True
            silent_since = now()
            await reach(client, SUSPENDED)
            await reach(client, CONNECTED)
            mute.is_mute = False
            assert cluster.host_of(client) is not mute
            assert now() - silent_since < session_timeout


@virtual
async def test_a_server_that_keeps_the_session_alive_and_has_lost_its_commands_is_left() -> None:
    async with Cluster("ab") as cluster:
        client = await cluster.client()
        lossy = cluster.host_of(client)
        lossy.drop = lambda frame: frame[0] == Tag.RESULTS
        started = now()
        assert await say(client, "a")
        assert cluster.host_of(client) is not lossy
        assert now() - started < PATIENCE_SECONDS_MIN + 0.1


@virtual
async def test_a_server_that_answers_is_not_left_and_neither_is_one_that_owes_nothing() -> None:
    async with Cluster("ab") as cluster:
        cluster.model.timeout_ms = 60_000
        client = await cluster.client()
        host = cluster.host_of(client)
        for number in range(10):
            await say(client, f"a{number}")
            await asyncio.sleep(PATIENCE_SECONDS_MIN + 0.5)
        assert cluster.host_of(client) is host
        assert host.callers == 1


@virtual
async def test_one_that_has_just_lost_its_leader_is_given_time_to_find_another_after_a_long_silence_too() -> None:
    async with Cluster("ab") as cluster:
        cluster.model.timeout_ms = 60_000
        client = await cluster.client()
        host = cluster.host_of(client)
        await asyncio.sleep(10)
        cluster.model.leader = ""
        cluster.a.announce()
        cluster.hosts["b"].announce()
        await reach(client, SUSPENDED)
        await asyncio.sleep(PATIENCE_SECONDS_MIN - 0.1)
        cluster.model.leader = "b"
        host.announce()
        await reach(client, CONNECTED)
        assert host.callers == 1
        assert cluster.host_of(client) is host


@virtual
async def test_patience_grows_while_no_server_helps() -> None:
    async with Cluster("ab") as cluster:
        client = await cluster.client()
        for host in cluster.hosts.values():
            host.is_mute = True
        called = say(client, "a", timeout=None)
        lost: list[float] = []
        assert client._engine is not None
        connector = client._engine.connector
        on_lost = connector._on_lost

        def note_when() -> None:
            lost.append(now())
            on_lost()

        connector._on_lost = note_when
        await asyncio.sleep(60)
        pauses = [later - earlier for earlier, later in itertools.pairwise(lost)]
        assert [round(pause) for pause in pauses[:3]] == [2, 4, 8]
        assert all(PATIENCE_SECONDS_MAX <= pause < PATIENCE_SECONDS_MAX + 2 for pause in pauses[2:])
        for host in cluster.hosts.values():
            host.is_mute = False
        assert await called
        assert client._engine._patience == PATIENCE_SECONDS_MIN


@virtual
async def test_the_only_server_is_dialled_again_when_it_names_no_leader_for_long() -> None:
    """The connection may be one that only this end believes in, and nothing is sent that would tell."""
    async with Cluster() as cluster:
        client = await cluster.client()
        cluster.model.leader = ""
        cluster.a.announce()
        await asyncio.sleep(60)
        assert 5 <= cluster.a.callers <= 15  # at most after every 8 seconds, and at first after 2
        cluster.model.leader = "a"
        cluster.a.announce()
        await reach(client, CONNECTED)
        assert client.connected_to == "a"


@virtual
async def test_one_of_several_is_left_when_it_knows_no_leader() -> None:
    async with Cluster("ab") as cluster:
        client = await cluster.client()
        lonely = cluster.host_of(client)
        lonely.knows_leader = False
        cluster.model.leader = ""
        lonely.announce()
        cluster.model.leader = "a"
        await reach(client, SUSPENDED)
        await reach(client, CONNECTED)
        assert cluster.host_of(client) is not lonely


@virtual
async def test_a_server_that_sends_what_cannot_be_read_is_left_and_nothing_is_lost() -> None:
    async with Cluster("ab") as cluster:
        client = await cluster.client()
        broken = cluster.host_of(client)
        broken.is_mute = True
        called = say(client, "a")
        await turn()
        broken.tell(b"\xff?")
        assert await called
        assert cluster.host_of(client) is not broken
        assert client._engine is not None
        assert "tag ff, unknown to clients" in client._engine.connector.tried[broken.address]


@virtual
async def test_an_idle_session_is_kept_alive() -> None:
    async with Cluster() as cluster:
        await cluster.client()
        cluster.a.frames.clear()
        await asyncio.sleep(10.5)
        assert names(cluster.a.frames) == ["KEEP_ALIVE"] * 10


@virtual
async def test_a_server_that_reads_slowly_gets_no_more_until_it_has_read() -> None:
    async with Cluster() as cluster:
        client = await cluster.client()
        (connection,) = cluster.a.connections
        connection.pause_reading()
        calls = [say(client, f"{number}" + "x" * 500_000) for number in range(10)]
        await turn()
        assert client._engine is not None
        near = client._engine.connector.connection
        assert near is not None
        assert not near.writable
        late = say(client, "late")
        await turn()
        assert client._engine.session.unsent == [late]
        connection.resume_reading()
        await asyncio.gather(*calls, late)
        assert list(cluster.model.executed)[-1] == "late"


@virtual
async def test_other_servers_are_learnt_from_those_that_answer_unless_the_client_keeps_to_its_own() -> None:
    async with Cluster("ab") as cluster:
        cluster.model.members = {"a": "a:1", "b": "b:1"}
        free, bound = await cluster.client(["a:1"]), await cluster.client(["a:1"], discover=False)
        await cluster.a.close()
        await reach(bound, SUSPENDED)
        await reach(free, CONNECTED)
        assert (free.connected_to, bound.connected_to) == ("b", None)
