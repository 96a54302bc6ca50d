"""Simulations written down: what is read is what was written, and a mistake is told by its line."""

from dataclasses import replace
from random import Random

import pytest

from copycat.testing.fault import Action
from copycat.testing.script import FORMAT, Script, ScriptError, parse
from copycat.testing.simulator import Settings, run_seed

ABOUT = "Two members lose their power at once.\n\nThe third is slow."

TEXT = f"""\
# Two members lose their power at once.
#
# The third is slow.
{FORMAT}
seed 7
seconds 10
members 5
latency 0.002 0.03

     0.5 slow-disk member=c seconds=0.3 until 4
   3.215 cut-power members=a,b until 3.9
       4 partition side=a,client-1 other=b,c,client-2
       5 jump-clock host=a seconds=-31557600.125
"""


def test_a_script_reads_as_it_was_written() -> None:
    script = parse(TEXT)

    assert str(script) == TEXT
    assert (script.seed, script.seconds, script.about) == (7, 10.0, ABOUT)
    assert script.settings == Settings(members=5, latency=(0.002, 0.03))
    assert script.actions == (
        Action(at=0.5, fault="slow-disk", arguments={"member": "c", "seconds": 0.3}, until=4.0),
        Action(at=3.215, fault="cut-power", arguments={"members": ("a", "b")}, until=3.9),
        Action(
            at=4.0,
            fault="partition",
            arguments={"side": ("a", "client-1"), "other": ("b", "c", "client-2")},
            until=None,
        ),
        Action(at=5.0, fault="jump-clock", arguments={"host": "a", "seconds": -31557600.125}, until=None),
    )


def test_what_is_not_said_is_as_usual() -> None:
    script = parse(f"{FORMAT}\n2 kill members=a until 8.5  # and that is all")

    assert (script.seed, script.about, script.settings) == (0, "", Settings())
    assert script.seconds == 14.0, "longer than the last fault"


@pytest.mark.parametrize("seed", range(20))
def test_whatever_settings_a_seed_draws_can_be_written_down(seed: int) -> None:
    settings = Settings.draw(Random(seed))
    script = Script(seed=seed, seconds=1 / 3, settings=settings)

    again = parse(str(script))

    script.check()
    drawn = Settings()  # by which faults are drawn is no part of a script
    assert (again.seconds, str(again)) == (1 / 3, str(script))
    assert again.settings == replace(
        settings, fault_pause=drawn.fault_pause, fault_length=drawn.fault_length, faults=drawn.faults
    )


@pytest.mark.simulation
@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 4, 6, 11])
def test_the_script_of_a_seed_leaves_the_trace_of_that_seed(seed: int) -> None:
    report = run_seed(seed, seconds=15)
    script = Script.of(report)

    again = parse(str(script)).run()

    assert script.actions
    assert (again.trace, again.events, again.actions) == (report.trace, report.events, report.actions)
    assert (again.invoked, again.ok, again.problems) == (report.invoked, report.ok, report.problems)


def test_a_fault_that_is_left_out_makes_another_run() -> None:
    script = parse(f"{FORMAT}\nseconds 4\n1 kill members=a,b,c until 2\n3 kill members=b until 3.5")

    whole = script.run()
    rest = parse(str(script).replace("       1 kill", "# 1 kill")).run()

    assert (whole.faults["process killed"], rest.faults["process killed"]) == (4, 1)
    assert whole.trace != rest.trace


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", f"there is no line {FORMAT}"),
        ("# nothing\nseed 7", f"line 2: {FORMAT} comes first, not 'seed 7'"),
        ("copycat-simulation/2", f"line 1: {FORMAT} comes first, not 'copycat-simulation/2'"),
        (f"{FORMAT}\nmember 3", "line 2: there is no setting member; there are seed, seconds, members"),
        (f"{FORMAT}\nfaults kill", "line 2: there is no setting faults"),
        (f"{FORMAT}\n\nmembers many", "line 3: members many: "),
        (f"{FORMAT}\nmembers 3 4", "line 2: members has one value, not 2"),
        (f"{FORMAT}\nlatency 1", "line 2: latency 1: "),
        (f"{FORMAT}\nseed 1\nseed 2", "line 3: seed was set before"),
        (f"{FORMAT}\n5", "line 2: a time, and then a fault: kill"),
        (f"{FORMAT}\n5 explode", "line 2: there is no fault explode; there are kill"),
        (f"{FORMAT}\n5 kill", "line 2: kill takes members=…, which is missing"),
        (f"{FORMAT}\n5 kill a", "line 2: kill takes members=…, not a"),
        (f"{FORMAT}\n5 kill members=a power=1", "line 2: kill takes members=…, not power=1"),
        (f"{FORMAT}\n5 kill members=a until 4", "line 2: it ends at 4, before it begins"),
        (f"{FORMAT}\n5 kill members=a until", "line 2: kill takes members=…, not until"),
        (f"{FORMAT}\n5 wipe member=a until 7", "line 2: wipe ends by itself: it has no until"),
        (f"{FORMAT}\n5.x kill members=a", "line 2: '5.x' is not a number"),
        (f"{FORMAT}\n5 jump-clock host=a seconds=inf", "line 2: 'inf' is not a number"),
        (f"{FORMAT}\n5 kill members=a,d", "line 2: members=d: there are a, b, c"),
        (f"{FORMAT}\n5 slow-disk member=client-1 seconds=1", "line 2: member=client-1: there are a, b, c"),
        (f"{FORMAT}\n5 kill-client client=a power=0", "line 2: client=a: there are client-1, client-2"),
        (f"{FORMAT}\n5 isolate host=client-3", "line 2: host=client-3: there are a, b, c, client-1, client-2"),
        (f"{FORMAT}\n5 wipe member=a\n6 wipe member=b", "2 of 3 members lose their disks"),
        (f"{FORMAT}\nmembers 9", "a cluster has 1 to 7 members, not 9"),
        (f"{FORMAT}\nclients 0", "let there be 1 at least"),
        (f"{FORMAT}\nwork map dance", "clients do ledger, map, lock, topic"),
        (f"{FORMAT}\nwork", "not nothing"),
        (f"{FORMAT}\nseconds -1", "faults go on for some seconds, not for -1"),
        (f"{FORMAT}\nlease-ms 5000", "lease"),
    ],
)
def test_a_mistake_is_told(lines: str, message: str) -> None:
    with pytest.raises(ScriptError) as told:
        parse(lines)

    assert message in str(told.value)
    assert told.value.line == (int(message.split()[1][:-1]) if message.startswith("line ") else 0)
