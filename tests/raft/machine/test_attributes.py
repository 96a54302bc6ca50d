"""Machines whose state is annotated attributes: what is in a snapshot of them, and what is an error."""

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from copycat.errors import SnapshotError
from copycat.io.serializer import Serializer
from copycat.raft.machine.sessions import ServerSession
from copycat.raft.machine.snapshot import Kind, capture, restore
from copycat.raft.protocol.state_machine import Derived, Executor, Session, StateMachine
from copycat.testing.portrait import picture, picture_differences
from tests.raft.machine.restoring import log_of, machine_of, refusal


class Order(Derived):
    """What follows from the rest."""


class Kept(StateMachine, name="test.kept"):
    """One attribute of each sort."""

    limit: ClassVar[int] = 5
    accounts: dict[tuple[str, int], list[int]]
    names: set[str]
    best: str | None
    count: int = 3
    never_set: int
    order: Order
    executor: Executor

    def __init__(self) -> None:
        self.accounts, self.names, self.best = {}, set(), None
        self.order = Order()
        self.also_derived = Order()

    def configure(self, executor: Executor) -> None:
        self.executor = executor
        self.also = executor


def test_annotated_attributes_are_a_snapshot_and_come_back_by_their_annotations() -> None:
    log = log_of(Kept)
    one, other = log.make(), log.make()
    machine = machine_of(one)
    machine.accounts = {("a", 1): [1, 2], ("b", 2): []}
    machine.names = {"x", "y"}
    machine.count = 4
    restore(other.executor, capture(one.executor))

    assert picture_differences(picture(one.executor), picture(other.executor)) == ""
    assert machine_of(other).accounts == machine.accounts
    assert type(next(iter(machine_of(other).accounts))) is tuple
    assert vars(machine_of(other)).keys() == vars(machine).keys()


def test_an_attribute_is_encoded_at_once() -> None:
    replica = log_of(Kept).make()
    expected, later = list(capture(replica.executor)), capture(replica.executor)
    machine_of(replica).names.add("z")

    assert list(later) == expected


class Forgetful(Kept):
    """Some state is not annotated."""

    def __init__(self) -> None:
        super().__init__()
        self.more = 1


class Shared(Kept):
    notes: dict[str, int] = {}  # noqa: RUF012  # the mistake


class Holding(Kept):
    owner: Session

    def __init__(self) -> None:
        super().__init__()
        self.owner = ServerSession(1, b"", b"", 0)


class Slotted(Kept):
    __slots__ = "hidden"

    def __init__(self) -> None:
        super().__init__()
        self.hidden = 1


class Unreadable(Kept):
    what: "Nowhere"  # type: ignore[name-defined]  # noqa: F821  # the mistake


class Odd(Kept):
    what: Any

    def __init__(self) -> None:
        super().__init__()
        self.what = SimpleNamespace(text="x" * 500)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Forgetful, "attribute 'more' of Forgetful is not annotated in the body of the class: annotate it there if"),
        (Shared, "attribute 'notes' of Shared is one dict for all machines of the class: make it in __init__"),
        (Holding, "attribute 'owner' of Holding is a Session: keep its id instead"),
        (Slotted, "attribute 'hidden' of Slotted is not annotated"),
        (Unreadable, "the annotations of Unreadable cannot be read: name 'Nowhere' is not defined"),
        (Odd, "attribute 'what' of Odd cannot be encoded: a SimpleNamespace would come back as object"),
        (Odd, "; it is namespace(text='xxx"),
    ],
)
def test_state_that_would_be_forgotten_is_an_error(make: Callable[[], StateMachine], message: str) -> None:
    assert message in refusal(make)
    assert len(refusal(make)) < 700


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (["gone", b"\x01"], "Kept has no attribute 'gone', which an older one had"),
        (["count", b"\xa1x"], "attribute 'count' of Kept: the value is not int"),
    ],
)
def test_an_attribute_that_does_not_fit_the_class_is_an_error(part: list[Any], message: str) -> None:
    log = log_of(Kept)
    records = list(capture(log.make().executor))
    records.insert(2, [Kind.PART, Serializer().encode_state(part)])

    with pytest.raises(SnapshotError, match=message):
        restore(log.make().executor, records)


def test_an_override_may_add_to_what_is_annotated() -> None:
    class Indexed(Kept):
        by_name: ClassVar[dict[str, int]]

        def restore(self, parts: Iterable[Any]) -> None:
            super().restore(parts)
            self.also_derived = Order()
            self.count += 1

    log = log_of(Indexed)
    other = log.make()
    restore(other.executor, capture(log.make().executor))
    assert machine_of(other).count == 4
