"""Raft without resources: a state machine of your own, three servers and a client, here all in one process."""

import asyncio
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from copycat import Command, Commit, Executor, Query, StateMachine, Storage, open_all
from copycat.raft import RaftClient, RaftServer

MEMBERS = "a=127.0.0.1:5111,b=127.0.0.1:5112,c=127.0.0.1:5113"


@dataclass
class Append(Command[int], id=1):
    line: str


@dataclass
class Lines(Query[list[str]], id=2):
    pass


class Journal(StateMachine, name="example.journal", version=1):
    """The same lines in the same order on every server."""

    lines: list[str]  # annotated, so that it is in snapshots

    def __init__(self) -> None:
        self.lines = []

    def configure(self, executor: Executor) -> None:
        executor.register(Append, self.append)
        executor.register(Lines, lambda commit, query: self.lines)

    def append(self, commit: Commit, command: Append) -> int:
        self.lines.append(f"{commit.index}: {command.line}")
        return len(self.lines)


async def main(directory: Path, members: str = MEMBERS) -> None:
    servers = [RaftServer(each, members, Journal, storage=Storage(directory / each)) for each in ("a", "b", "c")]
    async with open_all(*servers), RaftClient(members) as client:
        await asyncio.gather(client.submit(Append("one")), client.submit(Append("two")))
        leader = next(server for server in servers if server.member.id == client.leader)
        await leader.close()
        await client.submit(Append("three"))  # the two others go on
        print(await client.submit(Lines()))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        asyncio.run(main(Path(temporary), *sys.argv[1:]))
