"""One picture of a chaos run: a page of HTML that needs nothing else, light or dark as its reader's system is.

From above: how many writes were acknowledged each second, who led, which faults there were, and what each client did, a
row for each kind of resource, a stroke from call to answer, coloured by outcome. Faults shine through all of it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import ceil
from string import Template
from typing import Any

from copycat.testing.chaos.clients import COUNTER, LOCK, MAP, NUMBERS_STEP, VALUE
from copycat.testing.chaos.faults import KINDS
from copycat.testing.chaos.hearing import LEDGER, TOPIC
from copycat.testing.chaos.judge import READS, kind_of
from copycat.testing.history import FAIL, INVOKE, NEMESIS, OK, History

ROWS = (MAP, VALUE, COUNTER, LOCK, LEDGER, TOPIC)
OUTCOMES = (OK, FAIL, "unknown")

WIDTH, LEFT, RIGHT = 1200, 84, 16
RATE_HEIGHT, LEADER_HEIGHT, FAULT_HEIGHT, ROW_HEIGHT, GAP = 90, 20, 16, 5, 14
BINS = 240
TICKS = 12
SECOND = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A fault: from `begins` to `ends`, in ns."""

    kind: str
    what: str
    whom: str
    begins: int
    ends: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stroke:
    """An operation, in ns. slot: of its client. row: its kind."""

    slot: int
    row: str
    outcome: str
    begins: int
    ends: int


@dataclass(frozen=True, slots=True)
class Picture:
    """What there is to see. Times in ns.

    leaders: from when on who leads; None: nobody. writes: when each was acknowledged. healed: when faults were over.
    """

    begins: int
    ends: int
    strokes: list[Stroke]
    bands: list[Band]
    leaders: list[tuple[int, str | None]]
    writes: list[int]
    healed: int | None


def picture_of(history: History, slots: Mapping[int, int]) -> Picture:
    """What the history shows. slots: the slot of each life, as process numbers have it."""
    times = [event.time for event in history.events if event.process != NEMESIS] or [0, 1]
    begins, ends = times[0], max(times[-1], times[0] + 1)
    nemesis = [event for event in history.events if event.process == NEMESIS]
    leaders = [(event.time, dict(event.value)["leader"]) for event in nemesis if event.f == "leader"]
    healed = next((event.time for event in nemesis if event.f == "heal"), None)
    writes = [event.time for event in history.events if event.type == OK and event.f not in READS]
    return Picture(
        begins, ends, list(_strokes(history, slots, ends)), list(_bands(history, ends)), leaders, writes, healed
    )


def _strokes(history: History, slots: Mapping[int, int], end: int) -> Iterator[Stroke]:
    begun: dict[int | str, int] = {}
    what: dict[int | str, tuple[int, str]] = {}
    for event in history.events:
        if not isinstance(event.process, int) or event.f in ("receive", "use", "lost", "listen", "close"):
            continue
        slot = slots.get(event.process % NUMBERS_STEP)
        row = kind_of(event.resource)
        if slot is None or row not in ROWS:
            continue
        if event.type == INVOKE:
            begun[event.process], what[event.process] = event.time, (slot, row)
        else:
            outcome = event.type if event.type in (OK, FAIL) else "unknown"
            yield Stroke(slot=slot, row=row, outcome=outcome, begins=begun.pop(event.process), ends=event.time)
    for process, since in begun.items():  # nothing ended it: its client was killed
        slot, row = what[process]
        yield Stroke(slot=slot, row=row, outcome="unknown", begins=since, ends=min(end, since + int(SECOND / 2)))


def _bands(history: History, end: int) -> Iterator[Band]:
    begun: dict[int, tuple[int, dict[str, Any]]] = {}
    for event in history.events:
        if event.process != NEMESIS or event.f not in KINDS:
            continue
        facts = dict(event.value)
        if facts["state"] == "begins":
            begun[facts["number"]] = event.time, facts
        elif facts["number"] in begun:
            yield _band(*begun.pop(facts["number"]), event.time)
    for since, facts in begun.values():
        yield _band(since, facts, end)


def _band(since: int, facts: Mapping[str, Any], until: int) -> Band:
    whom = ", ".join(facts["whom"])
    return Band(kind=facts["kind"], what=facts["what"], whom=whom, begins=since, ends=until)


# -- drawing -----------------------------------------------------------------------------------------------------------


def render(history: History, *, slots: Mapping[int, int], members: Sequence[str], verdict: Mapping[str, Any]) -> str:
    """The page."""
    drawing = _Drawing(picture_of(history, slots), members, max(slots.values(), default=-1) + 1)
    counts = verdict["operations"]
    figures = {
        "operations": sum(counts.values()),
        "acknowledged": counts.get("ok", 0),
        "refused": counts.get("fail", 0),
        "unknown": counts.get("info", 0),
        "faults": sum(verdict["faults"].values()),
        "changes of leader": verdict["leader_changes"],
        "longest stop of writes": f"{verdict['longest_stop_seconds']:g} s",
        "seed": verdict["settings"]["seed"],
    }
    return _PAGE.substitute(
        title="Everything held" if verdict["ok"] else "That must not be",
        state="good" if verdict["ok"] else "bad",
        figures="".join(f"<div><b>{escape(_number(each))}</b>{escape(name)}</div>" for name, each in figures.items()),
        drawing=drawing.svg(),
        checks="".join(_check_row(each) for each in verdict["checks"]),
        problems="".join(f"<li>{escape(each)}</li>" for each in _problems(verdict)),
    )


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _check_row(check: Mapping[str, Any]) -> str:
    mark = "kept" if check["ok"] else "BROKEN"
    return (
        f'<tr class="{"good" if check["ok"] else "bad"}"><td>{escape(check["name"])}</td>'
        f"<td>{check['checked']:,}</td><td>{check['parts']:,}</td><td>{mark}</td></tr>"
    )


def _problems(verdict: Mapping[str, Any]) -> Iterator[str]:
    for check in verdict["checks"]:
        yield from (f"{check['name']}: {breach}" for breach in check["breaches"])
    yield from verdict["problems"]
    yield from (f"not possible on that machine: {what}: {why}" for what, why in verdict["impossible"].items())


class _Drawing:
    """The picture as SVG. Everything is placed from above, and `top` is where the next thing goes."""

    def __init__(self, picture: Picture, members: Sequence[str], clients: int) -> None:
        self._picture = picture
        self._members = list(members)
        self._clients = clients
        self._scale = (WIDTH - LEFT - RIGHT) / (picture.ends - picture.begins)
        self._top = 10
        self._parts: list[str] = []

    def svg(self) -> str:
        """All of it."""
        self._draw_rate()
        self._draw_leaders()
        self._draw_faults()
        self._draw_clients()
        self._draw_times()
        body = "\n".join([*self._shine(), *self._parts])
        size = f'viewBox="0 0 {WIDTH} {self._top}"'
        return f'<svg {size} role="img" aria-label="operations, leaders and faults over time">\n{body}\n</svg>'

    def _x(self, time: int) -> float:
        inside = min(max(time, self._picture.begins), self._picture.ends)
        return round(LEFT + (inside - self._picture.begins) * self._scale, 1)

    def _label(self, text: str, y: float) -> None:
        self._parts.append(f'<text class="label" x="{LEFT - 8}" y="{y:g}">{escape(text)}</text>')

    def _shine(self) -> Iterator[str]:
        """Every fault, faintly, from top to bottom."""
        for band in self._picture.bands:
            x, width = self._x(band.begins), max(1.0, self._x(band.ends) - self._x(band.begins))
            yield f'<rect class="shine k-{band.kind}" x="{x:g}" y="0" width="{width:.1f}" height="{self._top - 18}"/>'

    def _draw_rate(self) -> None:
        picture = self._picture
        length = (picture.ends - picture.begins) / BINS
        bins = [0] * BINS
        for time in picture.writes:
            if picture.begins <= time <= picture.ends:
                bins[min(BINS - 1, int((time - picture.begins) / length))] += 1
        rates = [count / (length / SECOND) for count in bins]
        highest = max(rates) or 1.0
        bottom, step = self._top + RATE_HEIGHT, (WIDTH - LEFT - RIGHT) / BINS
        points = [
            f"{LEFT + (at + 0.5) * step:.1f},{bottom - rate / highest * RATE_HEIGHT:.1f}"
            for at, rate in enumerate(rates)
        ]
        self._parts.append(
            f'<polygon class="rate" points="{LEFT},{bottom} {" ".join(points)} {WIDTH - RIGHT},{bottom}"/>'
        )
        self._label("writes/s", self._top + RATE_HEIGHT / 2)
        self._label(f"{highest:,.0f}", self._top + 8)
        self._label("0", bottom)
        self._line(bottom)
        self._top = bottom + GAP

    def _draw_leaders(self) -> None:
        picture = self._picture
        starts = [*picture.leaders, (picture.ends, None)]
        self._label("leader", self._top + LEADER_HEIGHT * 0.7)
        for (since, leader), (until, _) in pairwise(starts):
            x, width = self._x(since), self._x(until) - self._x(since)
            if leader is None or width <= 0:
                continue
            number = self._members.index(leader) if leader in self._members else 0
            self._rect(f"m-{number % 6}", x, width, LEADER_HEIGHT, f"{leader} leads", leader if width > 12 else "")
        self._top += LEADER_HEIGHT + GAP

    def _draw_faults(self) -> None:
        kinds = [kind for kind in KINDS if any(band.kind == kind for band in self._picture.bands)]
        for kind in kinds:
            self._label(kind, self._top + FAULT_HEIGHT * 0.72)
            for band in self._picture.bands:
                if band.kind == kind:
                    x, width = self._x(band.begins), max(2.0, self._x(band.ends) - self._x(band.begins))
                    words = f"{band.what} {band.whom}" if len(band.whom) < 14 else band.what
                    title = f"{kind}, {band.what}: {band.whom}, {(band.ends - band.begins) / SECOND:.1f} s"
                    shown = words if len(words) * 5.2 < width else ""
                    self._rect(f"fault k-{kind}", x, width, FAULT_HEIGHT - 3, title, shown)
            self._top += FAULT_HEIGHT
        self._top += GAP

    def _rect(self, style: str, x: float, width: float, height: float, title: str, text: str) -> None:
        self._parts.append(
            f'<rect class="{style}" x="{x:g}" y="{self._top}" width="{width:.1f}" height="{height}" rx="2">'
            f"<title>{escape(title)}</title></rect>"
        )
        if text:
            y = self._top + height - 3.5 if height < LEADER_HEIGHT else self._top + height - 6
            self._parts.append(f'<text class="on" x="{x + 4:g}" y="{y:g}">{escape(text)}</text>')

    def _draw_clients(self) -> None:
        for slot in range(self._clients):
            self._line(self._top - 4)
            self._label(f"client {slot}", self._top + len(ROWS) * ROW_HEIGHT / 2 + 3)
            for outcome in OUTCOMES:
                moves = []
                for number, row in enumerate(ROWS):
                    y = self._top + (number + 0.5) * ROW_HEIGHT
                    moves += [f"M{x:g} {y:g}h{width:.1f}" for x, width in self._merged(slot, row, outcome)]
                if moves:
                    title = f"client {slot}: {outcome}; rows: {', '.join(ROWS)}"
                    self._parts.append(f'<path class="o-{outcome}" d="{"".join(moves)}"><title>{title}</title></path>')
            self._top += len(ROWS) * ROW_HEIGHT + GAP - 4

    def _merged(self, slot: int, row: str, outcome: str) -> Iterable[tuple[float, float]]:
        """The strokes of one row, those that touch as one; each wide enough to be seen."""
        spans = sorted(
            (self._x(each.begins), self._x(each.ends))
            for each in self._picture.strokes
            if (each.slot, each.row, each.outcome) == (slot, row, outcome)
        )
        found: list[list[float]] = []
        for left, right in spans:
            right = max(right, left + (0.6 if outcome == OK else 1.6))
            if found and left <= found[-1][1] + 0.1:
                found[-1][1] = max(found[-1][1], right)
            else:
                found.append([left, right])
        return [(left, right - left) for left, right in found]

    def _line(self, y: float) -> None:
        self._parts.append(f'<path class="line" d="M{LEFT} {y:g}H{WIDTH - RIGHT}"/>')

    def _draw_times(self) -> None:
        picture = self._picture
        length = (picture.ends - picture.begins) / SECOND
        step = next(each for each in (0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 3600) if length / each <= TICKS)
        bottom = self._top
        for number in range(ceil(length / step)):
            x = self._x(picture.begins + round(number * step * SECOND))
            self._parts.append(f'<path class="line" d="M{x:g} 0V{bottom}"/>')
            self._parts.append(f'<text class="tick" x="{x:g}" y="{bottom + 12}">{number * step:g} s</text>')
        if picture.healed is not None:
            x = self._x(picture.healed)
            self._parts.append(f'<path class="healed" d="M{x:g} 0V{bottom}"><title>all is healed</title></path>')
            self._parts.append(f'<text class="tick" x="{x:g}" y="{bottom - 2}">healed</text>')
        self._top = bottom + 18


_PAGE = Template("""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>copycat chaos: $title</title>
<style>
:root {
  color-scheme: light dark;
  --page: #fbfbfa; --ink: #1d2126; --soft: #6b7280; --line: #e4e4e1; --card: #fff;
  --ok: #2f8f6b; --fail: #d29a1a; --unknown: #d33f3f; --rate: #7fb6a3; --on: #fff;
  --good: #1f7a57; --bad: #c22f2f;
  --m0: #3b6fb6; --m1: #b0568f; --m2: #4f8a3c; --m3: #b3702a; --m4: #6a5bb5; --m5: #3d8c94;
  --kill: #c22f2f; --pause: #8a63c9; --partition: #3b6fb6; --network: #2b8a96; --disk: #b3702a; --clock: #7b7f2a;
  --client: #9a4f80; --shine: .055;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171a; --ink: #e7e9ea; --soft: #98a1ab; --line: #2a2f35; --card: #1b1f24;
    --ok: #55bd93; --fail: #e0b04a; --unknown: #ff6b6b; --rate: #2f6f5b; --on: #fff;
    --good: #5cc79d; --bad: #ff7b7b;
    --m0: #3f73b8; --m1: #a8528a; --m2: #4c8139; --m3: #a96a29; --m4: #6c5fb8; --m5: #38828a;
    --kill: #b93a3a; --pause: #7c58ba; --partition: #3f73b8; --network: #2b808b; --disk: #a96a29; --clock: #74782d;
    --client: #96507e; --shine: .10;
  }
}
body { margin: 0 auto; max-width: 1280px; padding: 24px; background: var(--page); color: var(--ink);
  font: 14px/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 22px; } .good h1, tr.good td:last-child { color: var(--good); }
.bad h1, tr.bad td:last-child { color: var(--bad); font-weight: 600; }
.figures { display: flex; flex-wrap: wrap; gap: 6px 28px; margin: 10px 0 16px; color: var(--soft); }
.figures b { display: block; color: var(--ink); font-size: 17px; font-variant-numeric: tabular-nums; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px; overflow-x: auto; }
svg { display: block; width: 100%; min-width: 800px; height: auto; font: 10px system-ui, sans-serif; }
.label { text-anchor: end; fill: var(--soft); font-size: 11px; } .tick { text-anchor: middle; fill: var(--soft); }
.on { fill: var(--on); } .line { stroke: var(--line); fill: none; stroke-width: .7; }
.healed { stroke: var(--good); stroke-width: 1.2; stroke-dasharray: 3 3; fill: none; }
.rate { fill: var(--rate); } .shine { fill-opacity: var(--shine); } .fault { fill-opacity: .9; }
.o-ok { stroke: var(--ok); } .o-fail { stroke: var(--fail); } .o-unknown { stroke: var(--unknown); }
.o-ok, .o-fail, .o-unknown { stroke-width: 3.4; fill: none; }
.m-0 { fill: var(--m0); } .m-1 { fill: var(--m1); } .m-2 { fill: var(--m2); } .m-3 { fill: var(--m3); }
.m-4 { fill: var(--m4); } .m-5 { fill: var(--m5); }
.k-kill { fill: var(--kill); } .k-pause { fill: var(--pause); } .k-partition { fill: var(--partition); }
.k-network { fill: var(--network); } .k-disk { fill: var(--disk); } .k-clock { fill: var(--clock); }
.k-client { fill: var(--client); }
.legend { margin: 8px 0 18px; color: var(--soft); } .legend i { display: inline-block; width: 18px; height: 4px;
  margin: 0 6px 3px 14px; border-radius: 2px; } .legend i:first-child { margin-left: 0; }
table { border-collapse: collapse; } td, th { padding: 2px 22px 2px 0; text-align: left; }
td:nth-child(2), td:nth-child(3), th:nth-child(2), th:nth-child(3) { text-align: right;
  font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 400; } li { white-space: pre-wrap; }
</style>
<body class="$state">
<h1>$title</h1>
<div class="figures">$figures</div>
<div class="card">$drawing</div>
<p class="legend"><i style="background:var(--ok)"></i>acknowledged
<i style="background:var(--fail)"></i>certainly not applied
<i style="background:var(--unknown)"></i>outcome unknown
&emsp; each client has a row for map, value, counter, lock, ledger and topic; a stroke lasts from call to answer</p>
<table><tr><th>promise</th><th>checked</th><th>parts</th><th></th></tr>$checks</table>
<ul>$problems</ul>
</body>
</html>
""")
