"""Faults that were drawn can be done again from what was recorded of them, all or some."""

import asyncio
from collections.abc import Callable

import pytest

from copycat.collections import DistributedMap
from copycat.testing.cluster import SimulatedCluster, simulate
from copycat.testing.fault import Action
from copycat.testing.faults import FAULTS
from copycat.testing.nemesis import Nemesis

SECONDS = 30.0


def run(begin: Callable[[SimulatedCluster, Nemesis], None]) -> tuple[str, list[Action], list[str]]:
    """The trace of a cluster under faults, the actions, and which members were up in the end, before all was mended."""

    async def scenario(cluster: SimulatedCluster) -> tuple[str, list[Action], list[str]]:
        for number in range(3):
            client = await cluster.client()
            await client.create(f"map-{number}", DistributedMap[str, int])
        nemesis = Nemesis(cluster)
        begin(cluster, nemesis)
        await asyncio.sleep(SECONDS)
        nemesis.stop()
        return cluster.trace.digest, nemesis.actions, [name for name, node in cluster.nodes.items() if node.is_up]

    return simulate(scenario, seed=5)


@pytest.mark.parametrize("kind", sorted(FAULTS))
def test_what_was_drawn_leaves_the_same_trace_when_it_is_done_again(kind: str) -> None:
    trace, drawn, _ = run(lambda cluster, it: it.draw(cluster.streams["faults"], [kind], pause=2, length=3))
    again, followed, _ = run(lambda _, it: it.follow(drawn))

    assert drawn
    assert {action.fault for action in drawn} == {kind}
    assert all(set(action.arguments) == set(FAULTS[kind].takes) for action in drawn)
    assert all((action.until is not None) == FAULTS[kind].lasts for action in drawn)
    assert (again, followed) == (trace, drawn)


def test_what_is_left_out_does_not_happen() -> None:
    kills = [Action(at=4.0, fault="kill", arguments={"members": ("a",)}, until=60.0)]
    kills.append(Action(at=2.0, fault="kill", arguments={"members": ("b",)}, until=3.0))
    kills.append(Action(at=5.0, fault="kill", arguments={"members": ("c",)}))

    assert run(lambda _, it: it.follow(kills))[2] == ["b"]
    assert run(lambda _, it: it.follow(kills[1:]))[2] == ["a", "b"]
    assert run(lambda _, it: it.follow([]))[2] == ["a", "b", "c"]


def test_after_it_was_told_to_stop_nothing_begins_and_nothing_ends() -> None:
    def begin(cluster: SimulatedCluster, nemesis: Nemesis) -> None:
        nemesis.follow(
            [
                Action(at=2.0, fault="kill", arguments={"members": ("a",)}, until=4.0),
                Action(at=4.0, fault="kill", arguments={"members": ("b",)}, until=5.0),
            ]
        )
        cluster.loop.call_at_true(3.0, nemesis.stop)

    _, actions, up = run(begin)

    assert [action.at for action in actions] == [2.0]
    assert up == ["b", "c"]


@pytest.mark.parametrize("kind", sorted(FAULTS))
def test_a_fault_can_hit_what_another_has_hit_already(kind: str) -> None:
    """When some are left out, the others find a cluster they were not drawn for."""
    _, drawn, _ = run(lambda cluster, it: it.draw(cluster.streams["faults"], [kind], pause=5, length=3))
    dead = [
        Action(at=1.0, fault="kill", arguments={"members": ("a", "b", "c")}),
        *(Action(at=1.0, fault="kill-client", arguments={"client": f"client-{n}", "power": 0.0}) for n in (1, 2, 3)),
    ]

    _, actions, _ = run(lambda _, it: it.follow([*dead, *drawn]))

    assert len(actions) == len(dead) + len(drawn)
