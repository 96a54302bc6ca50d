"""What the demo shows: steps that stay, and one line that moves. With rich where it is installed, plain elsewhere."""

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from copycat.cli.text import table

BAR_WIDTH = 12
INDENT = "     "


class View(Protocol):
    """What the demo speaks to."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def step(self, number: int, steps: int, text: str) -> None:
        """A step begins."""

    def note(self, text: str) -> None:
        """Something to remember of this step."""

    def live(self, text: str) -> None:
        """What the moving line says now; empty: nothing."""

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None: ...

    def end(self, text: str, *, is_good: bool) -> None:
        """The last word."""


class SilentView:
    """Shows nothing: a program listens."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def step(self, number: int, steps: int, text: str) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def live(self, text: str) -> None:
        pass

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        pass

    def end(self, text: str, *, is_good: bool) -> None:
        pass


class PlainView(SilentView):
    """Lines of text; the moving line only where there is a terminal to move it on."""

    def __init__(self) -> None:
        self._moves = sys.stdout.isatty()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live("")

    def step(self, number: int, steps: int, text: str) -> None:
        self._print(f" {number}/{steps} {text}")

    def note(self, text: str) -> None:
        self._print(INDENT + text)

    def live(self, text: str) -> None:
        if self._moves:
            print(f"\r\x1b[K{INDENT + text if text else ''}", end="", flush=True)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        for line in table(head, rows).splitlines():
            self._print(INDENT + line)

    def end(self, text: str, *, is_good: bool) -> None:
        self._print(f" {text}")

    def _print(self, line: str) -> None:
        self.live("")
        print(line, flush=True)


class RichView(SilentView):
    """The same, in colour."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(highlight=False, soft_wrap=True)
        self._live = Live(console=self._console, refresh_per_second=10, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live("")
        self._live.stop()

    def step(self, number: int, steps: int, text: str) -> None:
        self._console.print(self._text(f" {number}/{steps} ", "bold cyan"), self._text(text, "bold"), sep="")

    def note(self, text: str) -> None:
        self._console.print(self._text(INDENT + text))

    def live(self, text: str) -> None:
        self._live.update(self._text(INDENT + text if text else "", "green"))

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        first, *rest = table(head, rows).splitlines()
        self._console.print(self._text(INDENT + first, "dim"))
        for line in rest:
            self._console.print(self._text(INDENT + line))

    def end(self, text: str, *, is_good: bool) -> None:
        first, _, rest = text.partition(". ")
        style = "bold green" if is_good else "bold red"
        self._console.print(self._text(f" {first}.", style), self._text(f" {rest}"), sep="")

    def _text(self, text: str, style: str = "") -> Any:
        from rich.text import Text

        return Text(text, style=style)


def make_view(*, for_programs: bool) -> View:
    """Nothing for programs, colour on a terminal where rich is installed, else plain text."""
    if for_programs:
        return SilentView()
    if sys.stdout.isatty():
        try:
            return RichView()
        except ImportError:
            pass
    return PlainView()


def bar(fraction: float) -> str:
    """How far it is, from 0 to 1, as a bar."""
    done = round(min(1.0, max(0.0, fraction)) * BAR_WIDTH)
    return "█" * done + "░" * (BAR_WIDTH - done)
