"""A server that starts again at another address, while the others and clients know of the old one only."""

from pathlib import Path
from typing import Any

import pytest

from copycat.raft.client.survey import ask
from copycat.raft.protocol.members import Member
from copycat.testing.processes import LOOPBACK, free_ports
from tests.process.support import Numbers, ProcessCluster, client_at, running

pytestmark = [pytest.mark.process, pytest.mark.slow]


class Stale(ProcessCluster):
    """Everyone is started with the list of the beginning, but for the own address of who has moved."""

    def __init__(self, directory: Path, size: int = 3, **more: Any) -> None:
        super().__init__(directory, size, **more)
        self.first = dict(self.members)

    def command(self, name: str) -> list[str]:
        command = super().command(name)
        seen = {**self.first, name: self.members[name]}
        command[command.index("--members") + 1] = ",".join(map(str, seen.values()))
        return command


async def test_a_server_that_has_moved_is_found_by_all_and_still_is_after_all_have_started_with_old_lists(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, kind=Stale) as cluster:
        assert isinstance(cluster, Stale)
        async with client_at(cluster, "a", discover=True) as client:
            numbers = await client.create("numbers", Numbers)
            await numbers.put("n", 1)
            cluster.kill(["c"])
            cluster.members["c"] = Member("c", LOOPBACK, *free_ports(1))
            cluster.start(["c"])
            await cluster.wait_for_leader()

            async def recorded() -> dict[str, Any] | None:
                seen = [(await ask(member, 1.0))["members"]["c"] for member in cluster.members.values()]
                return {} if set(seen) == {cluster.members["c"].address} else None

            await cluster.wait_until(recorded, "all to know where c is")
            cluster.kill(["b"])  # now a and c are needed
            await cluster.wait_for_leader(["a", "c"])
            assert await numbers.put("n", 2) == 1

        cluster.kill()
        cluster.start()
        await cluster.wait_for_leader()
        await cluster.wait_until(recorded, "all to know from the log where c is")
        cluster.kill(["a"])
        await cluster.wait_for_leader(["b", "c"])
        async with client_at(cluster, "b", discover=True) as client:
            assert await (await client.create("numbers", Numbers)).get("n") == 2
