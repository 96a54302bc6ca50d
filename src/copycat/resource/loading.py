"""From what a server is started with to the state machines it allows."""

import importlib
from collections.abc import Iterable
from types import ModuleType
from typing import Any, get_origin

from copycat.errors import ConfigurationError
from copycat.raft.protocol.state_machine import StateMachine
from copycat.resource.resource import Resource

MODULE_LIST = "COPYCAT_RESOURCES"


def machines_of(resources: Iterable[Any]) -> list[type[StateMachine]]:
    """The state machine classes of `resources`: Resource classes (`DistributedMap`, `DistributedMap[str, int]`) or
    StateMachine classes (`Bank`), in order, each once.

    Raises ConfigurationError for anything else, for a state machine without a name, and for two different classes of
    one name and version.
    """
    machines: dict[tuple[str, int], type[StateMachine]] = {}
    for resource in resources:
        machine = _machine_of(resource)
        known = machines.setdefault((machine.type_name, machine.type_version), machine)
        if known is not machine:
            raise ConfigurationError(
                f"{known.__qualname__} and {machine.__qualname__} are both {machine.type_name!r} version "
                f"{machine.type_version}: rename one, or raise its version"
            )
    return list(machines.values())


def load_resources(where: str) -> list[Any]:
    """The classes `where` names: one, as `package.module:Class`, or those in a module's COPYCAT_RESOURCES, as
    `package.module`.

    Raises ConfigurationError when the module cannot be imported or does not hold them.
    """
    module_name, _, name = where.partition(":")
    if not module_name:
        raise ConfigurationError(f"{where!r} names no module: write package.module:Class or package.module")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigurationError(f"resources {where!r}: {error}") from error
    found = getattr(module, name or MODULE_LIST, None)
    if found is None:
        missing = name or f"{MODULE_LIST}, nor does {where!r} name a class, as in {module_name}:Class"
        raise ConfigurationError(f"module {module_name!r} has no {missing}")
    return [found] if name else list(found)


def resources_in(*modules: ModuleType) -> tuple[type[Resource], ...]:
    """The Resource classes that the modules export, in their `__all__`."""
    exported = [getattr(module, name) for module in modules for name in module.__all__]
    return tuple(each for each in exported if isinstance(each, type) and issubclass(each, Resource))


def _machine_of(resource: Any) -> type[StateMachine]:
    kind = get_origin(resource) or resource
    if isinstance(kind, type) and issubclass(kind, Resource):
        return kind.machine_class()
    if not isinstance(kind, type) or not issubclass(kind, StateMachine):
        raise ConfigurationError(f"resources are Resource or StateMachine classes, not {resource!r}")
    if not kind.type_name:
        raise ConfigurationError(
            f"state machine {kind.__qualname__} has no name: declare class {kind.__name__}(StateMachine, "
            'name="company.thing", version=1)'
        )
    return kind
