"""Plain text for people: tables and numbers."""

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be; numbers to the right. A row may be short: its last cell then runs on."""
    full = [row for row in rows if len(row) == len(head)]
    widths = [max(len(row[at]) for row in [head, *full]) for at in range(len(head))]
    widths[0] = max([widths[0], *(len(row[0]) for row in rows)])
    to_the_right = [bool(full) and all(_is_number(row[at]) for row in full) for at in range(len(head))]
    lines = []
    for row in [head, *rows]:
        cells = [
            cell.rjust(width) if right and len(row) == len(head) else cell.ljust(width)
            for cell, width, right in zip(row, widths, to_the_right, strict=False)
        ]
        lines.append("   ".join(cells).rstrip())
    return "\n".join(lines)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same in Markdown, first column to the left and the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figure(number: float | None, digits: int = 0) -> str:
    """A number with thousands parted, or "–" when there is none."""
    return "–" if number is None else f"{number:,.{digits}f}"


def _is_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "", 1).isdigit()
