"""The picture shows what the history says, and needs nothing but itself."""

import re
from xml.etree import ElementTree

from copycat.testing.chaos.timeline import Band, Stroke, picture_of, render
from copycat.testing.history import INVOKE
from tests.chaos.histories import Writer, good

SLOTS = {0: 0, 1: 1}
VERDICT = {
    "ok": True,
    "operations": {"ok": 20, "fail": 1, "info": 1},
    "faults": {"kill: leader": 1},
    "leader_changes": 1,
    "longest_stop_seconds": 0.5,
    "settings": {"seed": 7},
    "checks": [{"name": "map: linearizable", "ok": True, "checked": 3, "parts": 1, "breaches": ()}],
    "problems": [],
    "impossible": {"clock": "there is no C compiler"},
}


def test_operations_are_strokes_of_their_client_and_kind_from_call_to_answer() -> None:
    picture = picture_of(good().history(), SLOTS)

    put = next(each for each in picture.strokes if each.row == "map")
    assert put == Stroke(slot=0, row="map", outcome="ok", begins=put.begins, ends=put.begins + 1_000_000)
    assert {each.row for each in picture.strokes} == {"map", "value", "counter", "lock", "ledger", "topic"}
    assert {each.slot for each in picture.strokes} == {0, 1}


def test_what_a_killed_client_had_begun_is_an_unknown_stroke() -> None:
    log = good()
    log.line(3001, INVOKE, "put", "map", key="k", value="x")
    picture = picture_of(log.history(), SLOTS)

    (unknown,) = [each for each in picture.strokes if each.outcome == "unknown"]
    assert (unknown.slot, unknown.row, unknown.begins) == (1, "map", log.events[-1].time)


def test_faults_are_bands_and_leaders_change() -> None:
    picture = picture_of(good().history(), SLOTS)

    (band,) = picture.bands
    assert band == Band(kind="kill", what="leader", whom="a", begins=band.begins, ends=band.ends)
    assert band.begins < band.ends
    assert [leader for _, leader in picture.leaders] == ["a", None, "b"]
    assert picture.healed is not None


def test_a_fault_that_never_ended_goes_on_to_the_end() -> None:
    log = Writer()
    log.call(0, "get", "map", None, None, key="k")
    log.fault("kill", kind="kill", what="one", whom=("a",), number=0, state="begins")
    log.call(0, "get", "map", None, None, key="k")

    (band,) = picture_of(log.history(), SLOTS).bands
    assert band.ends == log.events[-1].time


def test_writes_are_counted_and_reads_are_not() -> None:
    log = Writer()
    log.call(0, "put", "map", "x", None, key="k")
    log.call(0, "get", "map", None, "x", key="k")

    assert picture_of(log.history(), SLOTS).writes == [log.events[1].time]


def page(**changes: object) -> str:
    return render(good().history(), slots=SLOTS, members=["a", "b", "c"], verdict={**VERDICT, **changes})


def test_the_page_needs_nothing_else_and_its_drawing_is_well_formed() -> None:
    text = page()

    assert not re.search(r"<script|<link|src=|href=|url\(|@import|https?:", text)
    drawing = ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + len("</svg>")])
    titles = [title.text for title in drawing.iter("title")]
    assert "kill, leader: a, 0.0 s" in titles
    assert {"a leads", "b leads"} <= set(titles)
    assert "prefers-color-scheme: dark" in text


def test_the_page_says_what_became_of_the_run_and_what_was_not_possible() -> None:
    assert "Everything held" in page()
    assert "not possible on that machine: clock: there is no C compiler" in page()
    bad = page(ok=False, problems=["waited <60> s in vain"])
    assert "That must not be" in bad
    assert "waited &lt;60&gt; s in vain" in bad


def test_a_run_without_any_operation_has_a_page_as_well() -> None:
    assert "<svg" in render(Writer().history(), slots={}, members=["a"], verdict=VERDICT)
