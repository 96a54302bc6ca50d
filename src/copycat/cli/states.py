"""The state of a resource as values that JSON has, from what it puts into a snapshot.

Of the shipped resources the parts are known, and named here. Of others they are shown as they are.
"""

import dataclasses
import enum
import math
from collections.abc import Callable
from typing import Any

import msgspec

from copycat.atomic.value import ValueMachine
from copycat.collections.map_machine import MapMachine
from copycat.collections.set import SetMachine
from copycat.coordination.election import ElectionMachine
from copycat.coordination.lock import LockMachine
from copycat.coordination.topic import TopicMachine
from copycat.errors import CopycatError
from copycat.io.serializer import Serializer
from copycat.raft.machine.executor import Executor
from copycat.raft.machine.host import Host
from copycat.raft.protocol.state_machine import StateMachine
from copycat.resource.operations import CATALOG
from copycat.resource.parts import rows

Show = Callable[[Any], Any]

GOING = {"lifetimes": ("key", "index", "session", "timer"), "audience": ("topic", "session", "instance")}
"""The sections of what goes by itself, and of who listens, with the fields of their rows."""


class StateViews:
    """Shows the machines of a replica. serializer: what values were encoded with."""

    def __init__(self, executor: Executor, serializer: Serializer) -> None:
        self._executor = executor
        self._serializer = serializer
        self._views: dict[str, Callable[[list[Any]], Any]] = {
            MapMachine.type_name: self._map,
            SetMachine.type_name: self._set,
            ValueMachine.type_name: self._value,
            LockMachine.type_name: self._line,
            ElectionMachine.type_name: self._line,
            TopicMachine.type_name: self._audience,
        }

    def resources(self) -> list[dict[str, Any]]:
        """Every resource: `path`, `type`, `version`, `id`, and `size_bytes` of its encoded state."""
        return [
            {"path": path, "type": host.machine.type_name, "version": host.machine.type_version, "id": host.target}
            | {"size_bytes": sum(len(part) for part in host.snapshot())}
            for path, host in self._hosts().items()
        ]

    def sessions(self) -> list[dict[str, Any]]:
        """Every open session."""
        return [
            {
                "id": each.id,
                "timeout_ms": each.timeout_ms,
                "sequence": each.sequence,
                "ack": each.ack,
                "activity_index": each.activity_index,
            }
            for each in self._executor.sessions
        ]

    def state(self, path: str) -> Any:
        """The state of the resource at `path`; "" for the only state machine. Raises KeyError."""
        host = self._hosts()[path]
        parts = [self._executor.machines.codec.decode_state(part) for part in host.snapshot()]
        view = self._views.get(host.machine.type_name)
        if view is None and type(host.machine).snapshot is StateMachine.snapshot:
            view = self._attributes
        return self.show(parts) if view is None else view(parts)

    def _hosts(self) -> dict[str, Host]:
        """By path; a machine that is no catalog is the only one there is."""
        hosts = self._executor.machines.hosts
        catalog = hosts[CATALOG]
        if catalog.machine.type_name != "copycat.catalog":
            return {"": catalog}
        decode = self._executor.machines.codec.decode_state
        _, *parts = [decode(part) for part in catalog.snapshot()]
        return {path: hosts[entry[0]] for part in parts for path, entry in rows(part, 2)}

    # -- the shipped resources ---------------------------------------------------------------------------------------

    def _attributes(self, parts: list[Any]) -> Any:
        """Of a machine whose annotated attributes are its state."""
        decode = self._executor.machines.codec.decode_state
        return {name: self._read(decode, value) for name, value in parts}

    def _map(self, parts: list[Any]) -> Any:
        return self._tables(parts, {"entries": ("key", "value", "version"), **GOING})

    def _set(self, parts: list[Any]) -> Any:
        tables = self._tables(parts, {"members": ("key",), **GOING})
        return {**tables, "members": [row["key"] for row in tables["members"]]}

    def _value(self, parts: list[Any]) -> Any:
        tables = self._tables(parts, {"value": ("value", "version"), **GOING})
        for lifetime in tables["lifetimes"]:
            del lifetime["key"]  # there is one value
        return {**tables, **tables["value"][0]}

    def _line(self, parts: list[Any]) -> Any:
        token, holder, *line = parts
        claims = [dict(zip(("session", "instance", "request", "timer"), claim, strict=True)) for claim in line]
        held_by = None if holder is None else dict(zip(("session", "instance", "request"), holder, strict=True))
        return {"token": token, "holder": held_by, "line": claims}

    def _audience(self, parts: list[Any]) -> Any:
        return self._tables([("audience", part) for part in parts], {"audience": GOING["audience"]})

    def _tables(self, parts: list[Any], sections: dict[str, tuple[str, ...]]) -> dict[str, list[dict[str, Any]]]:
        """The sections, each as its rows by the names of their fields."""
        shows: dict[str, Show] = {"key": self._key, "value": self._decoded}
        return {
            name: [
                {field: shows.get(field, self.show)(each) for field, each in zip(fields, row, strict=True)}
                for section, part in parts
                if section == name
                for row in rows(part, len(fields))
            ]
            for name, fields in sections.items()
        }

    # -- values ------------------------------------------------------------------------------------------------------

    def _key(self, data: bytes) -> Any:
        return self._read(self._serializer.decode_key, data)

    def _decoded(self, data: bytes | None) -> Any:
        return None if data is None else self._read(self._serializer.decode_value, data)

    def _read(self, decode: Show, data: bytes) -> Any:
        """What the bytes mean; as they are, if they are of a type that is not known here."""
        try:
            return self.show(decode(data))
        except CopycatError:
            return self.show(data)

    def show(self, value: Any) -> Any:
        """A value as JSON has it. Bytes are {"bytes": hex}; a dict with other keys than text is a list of pairs."""
        if value is None or isinstance(value, bool | str) or (type(value) is int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return {"bytes": bytes(value).hex()}
        if isinstance(value, dict):
            if all(type(key) is str for key in value):
                return {key: self.show(each) for key, each in value.items()}
            return {"pairs": [[self.show(key), self.show(each)] for key, each in value.items()]}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.show(each) for each in value]
        if isinstance(value, enum.Enum):
            return self.show(value.value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self.show({each.name: getattr(value, each.name) for each in dataclasses.fields(value)})
        if isinstance(value, msgspec.Struct):
            return self.show(msgspec.structs.asdict(value))
        return str(value)
