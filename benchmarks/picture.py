"""Pictures of figures: bars, and lines over a number that grows tenfold. SVG by hand: a page can show it as it is."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from copycat.cli.text import figure

WIDTH = 760
BAR, STEP = 14, 20  # height of a bar, and from one to the next
LABEL, VALUE = 300, 90  # room for names on the left, for numbers on the right
TOP, BOTTOM = 34, 12
PLOT_HEIGHT, PLOT_LEFT = 260, 80
COLOURS = ("#3465a4", "#c4501b", "#4e9a06", "#75507b", "#8f6f00", "#555753")


def bars(title: str, values: Sequence[tuple[str, float]], digits: int = 0) -> str:
    """A bar for each value, from 0."""
    most = max((value for _, value in values), default=0.0)
    room = WIDTH - LABEL - VALUE
    parts = []
    for number, (name, value) in enumerate(values):
        y = TOP + number * STEP
        length = room * value / most if most else 0.0
        parts += [
            _text(LABEL - 8, y + BAR - 3, name, "end"),
            f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{COLOURS[0]}"/>',
            _text(LABEL + length + 6, y + BAR - 3, figure(value, digits)),
        ]
    return _picture(title, TOP + len(values) * STEP + BOTTOM, parts)


def lines(title: str, series: Mapping[str, Sequence[tuple[float, float]]], digits: int = 0) -> str:
    """A line for each series of (x, y), y from 0, x tenfold from mark to mark. Every x is above 0."""
    points = [point for line in series.values() for point in line]
    most = max((y for _, y in points), default=0.0)
    first, last = _decades([x for x, _ in points])
    right, bottom = WIDTH - VALUE, TOP + PLOT_HEIGHT

    def place(x: float, y: float) -> str:
        across = (math.log10(x) - first) / (last - first)
        return f"{PLOT_LEFT + (right - PLOT_LEFT) * across:.1f},{bottom - (PLOT_HEIGHT * y / most if most else 0):.1f}"

    parts = [f'<path d="M{PLOT_LEFT},{TOP}V{bottom}H{right}" fill="none" stroke="#888"/>']
    parts += [_text(PLOT_LEFT - 6, TOP + 8, figure(most, digits), "end"), _text(PLOT_LEFT - 6, bottom, "0", "end")]
    for power in range(first, last + 1):
        x = PLOT_LEFT + (right - PLOT_LEFT) * (power - first) / (last - first)
        parts.append(_text(x, bottom + 16, figure(10.0**power), "middle"))
    for number, (name, line) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(place(x, y) for x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(PLOT_LEFT, bottom + 36 + number * STEP, name, colour=colour))
    return _picture(title, bottom + 32 + len(series) * STEP, parts)


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten below and above all values, one apart at least."""
    first = math.floor(math.log10(min(values, default=1.0)))
    last = math.ceil(math.log10(max(values, default=1.0)))
    return first, max(last, first + 1)


def _text(x: float, y: float, text: str, anchor: str = "start", colour: str = "#222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'


def _picture(title: str, height: int, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif"'
    return "\n".join(
        [
            f'{head} font-size="12">',
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
            f'<text x="12" y="20" font-size="14" fill="#222">{escape(title)}</text>',
            *parts,
            "</svg>\n",
        ]
    )
