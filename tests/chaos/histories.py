"""A history as a chaos run leaves one, in which everything held, to be doctored by tests."""

from typing import Any

from copycat.testing.chaos.hearing import LEDGER, TOPIC
from copycat.testing.history import INFO, INVOKE, NEMESIS, OK, Event, History


class Writer:
    """Writes a history, a millisecond between lines."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def line(self, process: int | str, kind: str, f: str, resource: str = "", **facts: Any) -> None:
        time = 1_000_000 * (len(self.events) + 1)
        self.events.append(Event(time=time, process=process, type=kind, f=f, resource=resource, **facts))

    def call(self, process: int, f: str, resource: str, argument: Any, answer: Any, key: Any = None) -> None:
        self.line(process, INVOKE, f, resource, key=key, value=argument)
        self.line(process, OK, f, resource, key=key, value=answer)

    def fault(self, f: str, **facts: Any) -> None:
        self.line(NEMESIS, INFO, f, value=tuple(sorted(facts.items())))

    def history(self) -> History:
        return History(tuple(self.events), {"seed": 7})


def good(*, entries: tuple[str, ...] = ("0.0-1", "1.1-1", "0.0-2", "last")) -> Writer:
    """Two clients that use everything, a fault, and what is read in the end."""
    log = Writer()
    log.fault("leader", leader="a", term=1)
    log.call(0, "listen", LEDGER, None, 0)
    log.call(1000, "listen", TOPIC, None, None)
    log.call(2000, "put", "map", "x", None, key="0-1")
    log.call(1, "get", "map", None, "x", key="0-1")
    log.call(1, "cas", "value-0", (None, "y"), True)
    log.call(1, "increment", "counter-0", None, 1)
    log.call(2000, "lock", "lock-0", None, 11)
    log.call(2000, "use", "lock-0", 11, 11)
    log.call(2000, "unlock", "lock-0", 11, True)
    log.fault(
        "kill", kind="kill", what="leader", whom=("a",), number=0, state="begins", begins=1.0, ends=2.0, amount=0.5
    )
    log.fault("leader", leader=None, term=1)
    log.call(1, "lock", "lock-0", None, 15)
    log.fault("leader", leader="b", term=2)
    log.fault(
        "kill", kind="kill", what="leader", whom=("leader",), number=0, state="ends", begins=1.0, ends=2.0, amount=0.5
    )
    for position, token in enumerate(("0.0-1", "1.1-1", "0.0-2")):
        log.call(2000 if token.startswith("0") else 1, "append", LEDGER, token, position)
    log.fault("heal")
    log.call(999, "append", LEDGER, "last", 3)
    log.call(2000, "publish", TOPIC, "m", 1)
    for position, token in enumerate(entries):
        log.call(0, "receive", LEDGER, None, (position, token))
    log.call(1000, "receive", TOPIC, None, "m")
    log.call(999, "read", LEDGER, None, entries)
    log.call(999, "get", "map", None, "x", key="0-1")
    return log
