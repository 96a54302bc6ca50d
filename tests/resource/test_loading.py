"""What servers are started with becomes the state machines they run, or an error that says what to write instead."""

import sys
from types import ModuleType
from typing import Any

import pytest

from copycat.collections import DistributedMap
from copycat.collections.map_machine import MapMachine
from copycat.errors import ConfigurationError
from copycat.replica import SHIPPED
from copycat.resource import Resource, StateMachine
from copycat.resource.loading import load_resources, machines_of, resources_in
from tests.resource.machines import Bank, BankAccount, Counter, CounterMachine


class Nameless(StateMachine):
    pass


class OtherBank(StateMachine, name="test.bank", version=1):
    pass


class NewerBank(StateMachine, name="test.bank", version=2):
    pass


def test_resources_and_state_machines_are_taken_alike_and_once() -> None:
    resources = [DistributedMap, DistributedMap[str, int], MapMachine, Bank, Counter, BankAccount, NewerBank]

    assert machines_of(resources) == [MapMachine, Bank, CounterMachine, NewerBank]


def test_the_resources_of_a_module_are_the_resource_classes_it_exports() -> None:
    module = ModuleType("company.things")
    vars(module).update(Bank=Bank, Counter=Counter, BankAccount=BankAccount, LIMIT=7, _Hidden=DistributedMap)
    module.__all__ = ["BankAccount", "LIMIT", "Counter", "Bank"]  # type: ignore[attr-defined]  # as in a file

    assert resources_in(module) == (BankAccount, Counter)


def test_every_resource_that_is_shipped_runs_on_every_server() -> None:
    assert {each.__name__ for each in SHIPPED} == {
        "DistributedAtomicValue",
        "DistributedLeaderElection",
        "DistributedLock",
        "DistributedMap",
        "DistributedSet",
        "DistributedTopic",
    }


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ([Nameless], r'Nameless has no name: declare class Nameless\(StateMachine, name="company.thing", version=1\)'),
        ([Bank, OtherBank], r"Bank and OtherBank are both 'test\.bank' version 1: rename one, or raise its version"),
        ([dict], "Resource or StateMachine classes, not <class 'dict'>"),
        (["bank"], "Resource or StateMachine classes, not 'bank'"),
        ([Bank()], "Resource or StateMachine classes, not <"),
        ([Resource], "Resource names no state machine"),
    ],
)
def test_what_servers_cannot_run_is_named(resources: list[Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        machines_of(resources)


def test_a_class_is_loaded_by_module_and_name() -> None:
    assert load_resources("tests.resource.machines:Bank") == [Bank]


def test_a_module_lists_its_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("acme_resources")
    module.COPYCAT_RESOURCES = (Bank, Counter)
    monkeypatch.setitem(sys.modules, "acme_resources", module)

    assert load_resources("acme_resources") == [Bank, Counter]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("", "'' names no module: write package.module:Class or package.module"),
        (":Bank", "':Bank' names no module"),
        ("no.such.module:Bank", "resources 'no.such.module:Bank': No module named 'no'"),
        ("tests.resource.machines:Nope", r"module 'tests\.resource\.machines' has no Nope"),
        (
            "tests.resource.machines",
            r"has no COPYCAT_RESOURCES, nor does 'tests\.resource\.machines' name a class, as in "
            r"tests\.resource\.machines:Class",
        ),
    ],
)
def test_what_cannot_be_loaded_says_how_to_write_it(where: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_resources(where)
