"""The plan is drawn from the seed alone; the nemesis does what it says, to whoever leads then, and undoes it."""

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest

from copycat.testing.chaos import faults
from copycat.testing.chaos.faults import ACTIONS, KINDS, LEADER, Fault, Nemesis, draw_plan, impossible
from copycat.testing.chaos.proxy import Link
from copycat.testing.chaos.servers import ChaosServers, client_name
from copycat.testing.recorder import Recorder

MEMBERS = ["a", "b", "c"]
CLIENTS = 2


def plan_of(seed: int, seconds: float = 60.0, kinds: list[str] | None = None, **more: Any) -> list[Fault]:
    return draw_plan(seed, seconds, kinds or list(KINDS), MEMBERS, CLIENTS, **more)


class Watched(ChaosServers):
    """Servers to which nothing is done: what should be is written down."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, len(MEMBERS), CLIENTS, random=Random(1))
        self.done: list[tuple[Any, ...]] = []
        self.up = set(MEMBERS)

    def is_up(self, name: str) -> bool:
        return name in self.up

    async def bring_up(self, names: Any) -> None:
        self.done.append(("up", *names))

    def take_down(self, names: Any) -> None:
        self.done.append(("down", *names))

    def pause(self, name: str) -> None:
        self.done.append(("pause", name))

    def resume(self, name: str) -> None:
        self.done.append(("resume", name))

    def bury(self) -> list[str]:
        return []

    def limit_files(self, name: str, size: int | None) -> None:
        self.done.append(("limit", name, size))

    async def trace(self, name: str, injection: str) -> None:
        self.done.append(("trace", name, injection))

    def untrace(self, name: str) -> None:
        self.done.append(("untrace", name))

    def shift_clock(self, name: str, seconds: int) -> None:
        self.done.append(("clock", name, seconds))


class WatchedClients:
    def __init__(self) -> None:
        self.done: list[tuple[str, int]] = []

    def kill(self, slot: int) -> None:
        self.done.append(("kill", slot))

    async def restart(self, slot: int) -> None:
        self.done.append(("restart", slot))

    def pause(self, slot: int) -> None:
        self.done.append(("pause", slot))

    def resume(self, slot: int) -> None:
        self.done.append(("resume", slot))


@pytest.fixture
def servers(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def nemesis_of(servers: ChaosServers, clients: WatchedClients, recorder: Recorder, leader: str | None = "b") -> Nemesis:
    return Nemesis(servers, clients, recorder, lambda: leader)


def fault(kind: str, what: str, *whom: str, amount: float = 0.5) -> Fault:
    return Fault(kind=kind, what=what, begins=0.0, ends=0.001, whom=whom, amount=amount)


# -- the plan ----------------------------------------------------------------------------------------------------------


def test_a_seed_draws_its_plan_again_and_another_seed_another() -> None:
    assert plan_of(1) == plan_of(1)
    assert plan_of(1) != plan_of(2)


@pytest.mark.parametrize("seed", range(20))
def test_faults_begin_in_order_and_end_in_time_and_hit_who_exists(seed: int) -> None:
    plan = plan_of(seed)

    assert [each.begins for each in plan] == sorted(each.begins for each in plan)
    assert all(0 < each.begins < each.ends <= 60.0 for each in plan)
    known = {*MEMBERS, *map(client_name, range(CLIENTS)), LEADER}
    assert all(each.whom and known.issuperset(each.whom) for each in plan)
    assert all(each.what in KINDS[each.kind] for each in plan)


@pytest.mark.parametrize("seed", range(20))
def test_every_kind_comes_when_there_is_time(seed: int) -> None:
    assert {each.kind for each in plan_of(seed)} == set(KINDS)


def test_what_is_asked_for_is_what_comes() -> None:
    assert {each.kind for each in plan_of(1, kinds=["kill", "pause"])} == {"kill", "pause"}


def test_what_is_impossible_does_not_come() -> None:
    plan = plan_of(1, 300.0, without={"clock": "no", "disk: full": "no", "disk: sync error": "no"})

    assert "clock" not in {each.kind for each in plan}
    assert {each.what for each in plan if each.kind == "disk"} == {"slow sync"}


def test_every_fault_of_every_kind_is_drawn_by_some_seed() -> None:
    drawn = {(each.kind, each.what) for seed in range(20) for each in plan_of(seed)}

    assert drawn == {(kind, what) for kind, choices in KINDS.items() for what in choices}


def test_links_that_become_bad_are_links_that_exist(servers: Watched) -> None:
    for seed in range(20):
        for each in plan_of(seed, kinds=["network"]):
            assert each.whom in servers.links


def test_what_cannot_be_done_here_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "why_no_strace", lambda: "strace is not installed")

    found = impossible(["kill", "clock", "disk"], "there is no C compiler")

    assert found["clock"] == "there is no C compiler"
    assert found["disk: sync error"] == found["disk: slow sync"] == "strace is not installed"
    assert "kill" not in found
    assert impossible(["kill"], "there is no C compiler") == {}
    assert impossible(["clock"]) == {}


# -- doing it ----------------------------------------------------------------------------------------------------------


async def done(servers: Watched, *plan: Fault) -> list[tuple[Any, ...]]:
    """What a nemesis does to servers."""
    await nemesis_of(servers, WatchedClients(), Recorder()).run(plan)
    return servers.done


async def test_every_kind_has_an_action() -> None:
    assert set(ACTIONS) == set(KINDS)


async def test_the_leader_is_whoever_leads_when_the_fault_begins(servers: Watched) -> None:
    assert await done(servers, fault("kill", "leader", LEADER)) == [("down", "b"), ("up", "b")]


async def test_pauses_end(servers: Watched) -> None:
    assert await done(servers, fault("pause", "one", "a")) == [("pause", "a"), ("resume", "a")]


@pytest.mark.parametrize(
    ("what", "call"),
    [
        ("full", ("limit", "a", 32 * 1024)),
        ("sync error", ("trace", "a", "fdatasync:error=EIO:when=1")),
        ("slow sync", ("trace", "a", "fdatasync:delay_enter=201000")),
    ],
)
async def test_disks_fail_until_they_are_mended_and_the_member_is_started_again(
    servers: Watched, what: str, call: tuple[Any, ...]
) -> None:
    assert await done(servers, fault("disk", what, "a")) == [call, ("untrace", "a"), ("limit", "a", None), ("up", "a")]


async def test_a_clock_that_jumped_is_set_right(servers: Watched) -> None:
    assert await done(servers, fault("clock", "jump", "a", amount=0.5)) == [("clock", "a", -10_000), ("clock", "a", 0)]


async def test_clients_are_killed_and_replaced_and_paused_and_resumed(servers: Watched) -> None:
    clients = WatchedClients()
    plan = [fault("client", "kill", "client-1"), fault("client", "pause", "client-0")]
    await nemesis_of(servers, clients, Recorder()).run(plan)

    assert sorted(clients.done) == [("kill", 1), ("pause", 0), ("restart", 1), ("resume", 0)]


def held(servers: ChaosServers) -> set[str]:
    return {link.name for link in servers.links.values() if any(lane.holds for lane in link._lanes.values())}


@pytest.fixture
def bitten(servers: Watched) -> tuple[Watched, Nemesis]:
    return servers, nemesis_of(servers, WatchedClients(), Recorder())


async def cut_by(bitten: tuple[Watched, Nemesis], what: Fault) -> set[str]:
    """The links that a partition holds; none when it has ended."""
    servers, nemesis = bitten
    end = await ACTIONS["partition"](nemesis, what, what.whom)
    found = held(servers)
    ended = end()
    assert not asyncio.iscoroutine(ended)
    assert held(servers) == set()
    return found


async def test_a_leader_that_is_cut_off_hears_and_reaches_nobody(bitten: tuple[Watched, Nemesis]) -> None:
    assert await cut_by(bitten, fault("partition", "leader", "b")) == {
        *("b→a", "b→c", "a→b", "c→b"),
        *("client-0→b", "client-1→b"),
    }


async def test_a_leader_that_is_cut_off_with_its_clients_still_hears_them(bitten: tuple[Watched, Nemesis]) -> None:
    """Whatever it acknowledges now by itself will be gone."""
    assert await cut_by(bitten, fault("partition", "leader with clients", "b")) == {"b→a", "b→c", "a→b", "c→b"}


async def test_halves_do_not_reach_each_other(bitten: tuple[Watched, Nemesis]) -> None:
    assert await cut_by(bitten, fault("partition", "halves", "a", "client-0", "b", "c", amount=0.4)) == {
        *("a→b", "a→c", "b→a", "c→a"),
        *("client-0→b", "client-0→c"),
    }


async def test_one_way_is_one_way(bitten: tuple[Watched, Nemesis]) -> None:
    assert await cut_by(bitten, fault("partition", "one way", "a", "b", "c", amount=0.1)) == {"a→b", "a→c"}


async def test_a_bridge_is_the_only_way(bitten: tuple[Watched, Nemesis]) -> None:
    assert await cut_by(bitten, fault("partition", "bridge", "client-0", "a", "b", "c")) == {"a→c", "c→a"}


@pytest.mark.parametrize("what", KINDS["network"])
async def test_a_link_is_good_again_when_its_fault_has_ended(bitten: tuple[Watched, Nemesis], what: str) -> None:
    servers, nemesis = bitten
    one: Link = servers.links["a", "b"]
    end = await nemesis.network(fault("network", what, "a", "b"), ("a", "b"))
    changed = bool(one.delay or one.bytes_per_second or held(servers))
    assert changed == (what in ("slow", "narrow", "stall"))
    end()
    assert (one.delay, one.bytes_per_second, held(servers)) == (0.0, None, set())


async def test_what_was_done_is_recorded_and_counted(servers: Watched) -> None:
    recorder = Recorder()
    nemesis = nemesis_of(servers, WatchedClients(), recorder)
    await nemesis.run([fault("kill", "leader", LEADER)])

    begins, ends = (dict(event.value) for event in recorder.history.events)
    assert (begins["state"], begins["whom"], begins["what"]) == ("begins", ("b",), "leader")
    assert (ends["state"], ends["number"]) == ("ends", begins["number"])
    assert nemesis.done == {"kill: leader": 1}


async def test_healing_makes_everything_work(servers: Watched) -> None:
    servers.links["a", "b"].hold()
    servers.links["a", "c"].delay = 1.0
    await nemesis_of(servers, WatchedClients(), Recorder()).heal()

    assert held(servers) == set()
    assert servers.links["a", "c"].delay == 0.0
    for name in MEMBERS:
        assert {("resume", name), ("limit", name, None), ("untrace", name)} <= set(servers.done)
    assert servers.done[-1] == ("up", *MEMBERS)
