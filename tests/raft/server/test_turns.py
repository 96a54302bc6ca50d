"""What a turn of the loop is spent on, and in which order: when one command is under way, that is what it takes."""

from collections.abc import Sequence
from typing import Any

import pytest

from copycat.raft.core.config import RaftConfig
from copycat.raft.core.events import Event, Flushed, Proposed, Received
from copycat.raft.core.leader import Leader
from copycat.raft.protocol.messages import AppendResponse
from copycat.raft.protocol.wire import Tag
from copycat.raft.server.driver import Driver
from tests.io.transport.support import wait_until
from tests.raft.server.cluster import Cluster, put

PUTS = 20

PATIENT = RaftConfig(election_timeout_ms=900, heartbeat_ms=400, lease_ms=850, notice_ms=400)
"""Commits go with the next put, however slow the machine is."""


pytestmark = pytest.mark.usefixtures("disk_is_never_slow")


class Turns:
    """What a driver did, turn by turn: the events of each pass as a list, and "answer", "apply" or "reply"."""

    def __init__(self, driver: Driver) -> None:
        self.turns: list[list[Any]] = []
        turn, step, apply = driver._turn, driver.raft.step, driver.executor.apply
        send, flush = driver._peers.send, driver.desk.flush

        def turning() -> None:
            self.turns.append([])
            turn()

        def stepping(now_ms: int, events: Sequence[Event]) -> Any:
            if self.turns:  # the turn under way when this began is nobody's
                self.turns[-1].append(list(events))
            return step(now_ms, events)

        def applying(block: Any) -> Any:
            if self.turns:
                self.turns[-1].append("apply")
            return apply(block)

        def sending(member: str, frame: bytes) -> bool:
            if self.turns and frame[0] == Tag.APPEND_RESPONSE:
                self.turns[-1].append("answer")
            return send(member, frame)

        def replying() -> None:
            if driver.desk.told and self.turns:
                self.turns[-1].append("reply")
            flush()

        driver._turn = turning  # type: ignore[method-assign]  # as are all below: this one driver is watched
        driver.raft.step = stepping  # type: ignore[method-assign]  # watched
        driver.executor.apply = applying  # type: ignore[method-assign]  # watched
        driver._peers.send = sending  # type: ignore[method-assign]  # watched
        driver.desk.flush = replying  # type: ignore[method-assign]  # watched


async def watched(cluster: Cluster) -> tuple[list[list[Any]], list[list[Any]]]:
    """The turns of the leader and of a follower during some puts under one leader, each flushed on the loop."""
    while True:
        leader = await cluster.elected()
        client = await cluster.client(to=[leader])
        follower, *_ = cluster.others(leader)
        drivers = [driver for name in (leader, follower) if (driver := cluster.servers[name].driver) is not None]
        term = drivers[0].raft.term
        # As at first, when the disk is not known; a member whose flush goes on beside may miss all of what is watched.
        while any(driver.flusher.goes_beside(alone=True) or driver.log.flushing for driver in drivers):
            await put(client, "before", 0)
        turns = [Turns(driver) for driver in drivers]
        for number in range(PUTS):
            await put(client, "key", number)
        if drivers[0].raft.is_leader and drivers[0].raft.term == term:  # a busy machine may have held it up too long
            of_leader, of_follower = ([list(turn) for turn in each.turns if turn] for each in turns)
            return of_leader, of_follower
        await client.close()


async def test_what_a_leader_has_just_sent_and_flushed_is_taken_in_with_the_first_answer() -> None:
    async with Cluster(faulty=True) as cluster:
        leader, _ = await watched(cluster)

    passes = [[each for each in turn if isinstance(each, list)] for turn in leader]
    proposed = [turn for turn in passes if any(type(event) is Proposed for event in turn[0])]
    assert len(proposed) == PUTS
    assert [len(turn) for turn in proposed] == [1] * PUTS
    answered = [turn[0] for turn in passes if type(turn[0][0]) is Flushed]
    assert any(type(event) is Received for events in answered for event in events)


async def test_an_answer_nobody_waits_for_takes_no_turn_of_its_own_and_is_not_lost() -> None:
    async with Cluster(faulty=True) as cluster:
        leader = await cluster.elected()
        client = await cluster.client(to=[leader])
        await put(client, "key", 0)
        driver = cluster.servers[leader].driver
        assert driver is not None
        role = driver.raft.role
        assert isinstance(role, Leader)
        member = cluster.others(leader)[0]
        level = role.members[member]
        await wait_until(
            lambda: level.match_index == driver.raft.log.last_index and not driver._inbox and not driver._is_woken
        )

        late = AppendResponse(term=role.term, round=0, accepted=True, match_index=1, hint_index=0, sent_ms=0)
        watch = Turns(driver)
        driver.receive(member, late)
        assert not driver._is_woken
        taken = Received(member, late)
        await wait_until(lambda: any(taken in events for turn in watch.turns for events in turn))  # within a heartbeat


async def test_a_follower_says_what_is_on_its_disk_before_it_applies_what_came_before() -> None:
    async with Cluster(faulty=True, config=PATIENT) as cluster:
        _, follower = await watched(cluster)

    both = [turn for turn in follower if "answer" in turn and "apply" in turn]
    assert both, follower
    assert [turn for turn in both if turn.index("answer") > turn.index("apply")] == []


async def test_clients_hear_of_what_is_applied_in_the_same_turn() -> None:
    async with Cluster(faulty=True) as cluster:
        leader, _ = await watched(cluster)

    replied = [turn for turn in leader if "reply" in turn]
    assert len(replied) == PUTS
    assert all(turn.index("apply") < turn.index("reply") for turn in replied)
