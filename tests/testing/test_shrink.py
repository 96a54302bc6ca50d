"""Making a failing simulation small: whatever is not needed goes, what is needed stays, and it fails as it did."""

from collections.abc import Callable

import pytest

from copycat.errors import UsageError
from copycat.testing.fault import Action
from copycat.testing.script import Script, parse
from copycat.testing.shrink import fitted, kind, shrink
from copycat.testing.simulator import Report

LARGE = parse(
    "copycat-simulation/1\nseed 9\nseconds 60\nmembers 5\nclients 4\npace 0.6\nlatency 0.002 0.03\n"
    + "\n".join(
        f"{at}.123 {fault}"
        for at, fault in enumerate(
            [
                "pause host=a until 9",
                "kill members=a,b,c until 8.5",
                "drift-clock host=b rate=1.01",
                "partition side=a,client-1 other=b,d,client-4 until 7",
                "kill members=d,e until 9",
                "jump-clock host=e seconds=100",
                "kill members=b until 12",
                "flap source=client-1 target=client-4 down=1 up=1 times=3",
            ]
            * 4,
            3,
        )
        if at < 8 or "until" not in fault
    )
)


def failing(when: Callable[[Script], bool], problem: str = "25: gone") -> Callable[[Script], Report]:
    """Runs a script by the look of it."""

    def run(script: Script) -> Report:
        return Report(
            seed=script.seed, settings=script.settings, problems=[problem] if when(script) else [], seconds=61
        )

    return run


def kinds(script: Script) -> set[str]:
    return {action.fault for action in script.actions}


def test_what_is_not_needed_goes() -> None:
    def fails(script: Script) -> bool:
        return {"kill", "jump-clock"} <= kinds(script) and script.settings.clients >= 2

    small = shrink(LARGE, run=failing(fails))

    assert fails(small)
    assert [action.fault for action in small.actions].count("kill") == 1
    assert len(small.actions) == 2
    assert (small.settings.clients, small.settings.pace, small.settings.latency) == (2, 0.3, (0.0005, 0.005))
    assert small.seed == LARGE.seed
    assert len(small.settings.work) == 1
    assert parse(str(small)) == small


def test_a_failure_without_any_fault_needs_none() -> None:
    small = shrink(LARGE, run=failing(lambda _: True))

    assert small.actions == ()
    assert (small.settings.members, small.settings.clients) == (1, 1)
    assert small.seconds == 1


def test_clients_do_only_what_is_needed() -> None:
    small = shrink(LARGE, run=failing(lambda script: "lock" in script.settings.work))

    assert small.settings.work == ("lock",)


def test_a_fault_hits_no_more_members_than_it_has_to() -> None:
    def fails(script: Script) -> bool:
        return any("b" in action.arguments.get("members", ()) for action in script.actions)  # type: ignore[operator]  # names

    (action,) = shrink(LARGE, run=failing(fails)).actions

    assert action.arguments == {"members": ("b",)}


def test_time_that_is_needed_stays() -> None:
    small = shrink(LARGE, run=failing(lambda script: script.seconds >= 20))

    assert 20 <= small.seconds < 30


def test_another_failure_is_not_the_one_that_was_looked_for() -> None:
    def run(script: Script) -> Report:
        problem = "25: gone" if "pause" in kinds(script) else "10: the map: no order fits"
        return Report(seed=script.seed, settings=script.settings, problems=[problem])

    small = shrink(LARGE, run=run)

    assert kinds(small) == {"pause"}
    assert small.about.splitlines()[0] == "25: gone"


def test_more_disks_are_never_lost_than_a_cluster_survives() -> None:
    lost = tuple(Action(at=at, fault="wipe", arguments={"member": name}) for at, name in ((1.0, "a"), (2.0, "b")))
    seen: list[Script] = []

    def fails(script: Script) -> bool:
        seen.append(script)
        return len(script.actions) == 2

    small = shrink(Script(seed=1, seconds=5, settings=LARGE.settings, actions=lost), run=failing(fails))

    assert small.settings.members == 5
    assert {script.settings.members for script in seen if len(script.actions) == 2} == {5}


@pytest.mark.parametrize("tries", [1, 7])
def test_it_gives_up_after_so_many_tries_with_what_it_has(tries: int) -> None:
    runs: list[Script] = []

    def fails(script: Script) -> bool:
        runs.append(script)
        return True

    small = shrink(LARGE, tries=tries, run=failing(fails))

    assert len(runs) == 1 + tries
    assert len(small.actions) < len(LARGE.actions) or small.seconds < LARGE.seconds


def test_it_tells_what_it_leaves_out_and_never_tries_the_same_again() -> None:
    told: list[str] = []
    runs: list[str] = []

    def fails(script: Script) -> bool:
        runs.append(str(script))
        return "kill" in kinds(script)

    shrink(LARGE, run=failing(fails), tell=told.append)

    assert told[0] == "looking for less that fails like this: 25: gone"
    assert any("without pause" in line and "members 5" in line for line in told)
    assert len(set(runs)) == len(runs)


def test_what_does_not_fail_cannot_be_made_smaller() -> None:
    with pytest.raises(UsageError, match="with seed 9 and these faults nothing fails"):
        shrink(LARGE, run=failing(lambda _: False))


def test_hosts_that_are_gone_are_not_hit() -> None:
    script = parse(
        "copycat-simulation/1\nmembers 5\nclients 2\n1 kill members=a,e\n2 kill members=d,e\n3 isolate host=client-2\n"
        "4 partition side=a,e other=client-1,client-2\n5 partition side=d other=a\n6 bad-network stall=0.1 cut=0"
    )

    small = fitted(script, members=3, clients=1)

    assert [(action.fault, dict(action.arguments)) for action in small.actions] == [
        ("kill", {"members": ("a",)}),
        ("partition", {"side": ("a",), "other": ("client-1",)}),
        ("bad-network", {"stall": 0.1, "cut": 0.0}),
    ]
    assert parse(str(small)) == small


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("25: c-1 was acknowledged at 3 and is at 9", "25: c-2 was acknowledged at 7 and is at None"),
        (
            "seed 4: at 3.921 s, member b: InvariantError: 5: a leader lacks a committed entry 17",
            "at 12.000 s, member a: InvariantError: 5: a leader lacks a committed entry 4",
        ),
        (
            "seed 4: waited 60 s for a leader that all know: a: follower in term 5",
            "seed 9: waited 60 s for a leader that all know: a is down",
        ),
        (
            "at 4.2 s, member c: CorruptionError: c: no copy of the metadata is sound",
            "seed 7: at 1 s, member a: CorruptionError: a: no copy of the metadata is sound",
        ),
        ("at 4.2 s: exception in callback f(1): KeyError", "at 5.3 s: exception in callback f(1): ValueError"),
    ],
)
def test_problems_of_one_kind_differ_in_particulars_only(one: str, other: str) -> None:
    assert kind(one) == kind(other)


def test_problems_of_different_kinds_are_told_apart() -> None:
    problems = [
        "25: a token is gone",
        "15: appended twice: a",
        "seed 4: waited 60 s for a leader that all know: a: 16: x",
        "seed 4: waited 60 s for calls to be answered: a is down",
        "at 4.2 s, member c: CorruptionError: c",
        "at 4.2 s, member c: KeyError: 5",
    ]

    assert len({kind(problem) for problem in problems}) == len(problems)
