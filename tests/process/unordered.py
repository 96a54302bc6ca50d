"""A state machine as none should be: what it keeps has the order of a set of strings, which is each process's own."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from copycat.resource import Command, Commit, Executor, Resource, StateMachine


@dataclass
class Keep(Command[None], id=1):
    names: list[str]


class Names(StateMachine, name="test.names", version=1):
    def __init__(self) -> None:
        self.names: list[str] = []

    def configure(self, executor: Executor) -> None:
        executor.register(Keep, self.keep)

    def keep(self, commit: Commit, command: Keep) -> None:
        self.names += set(command.names)

    def snapshot(self) -> Iterable[Any]:
        return iter(list(self.names))

    def restore(self, parts: Iterable[Any]) -> None:
        self.names = list(parts)


class Hat(Resource, machine=Names):
    def keep(self, *names: str) -> "asyncio.Future[None]":
        return self.submit(Keep(list(names)))
