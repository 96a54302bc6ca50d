"""Who belongs to a simulated cluster, as one can tell who sees all its members, and whoever changes that.

A disk may be lost, or a member leave, only while those who are left can go on: which members vote must be certain then,
and stay as it is. So one change is under way at a time, and is asked for until it is certain.

Source: protocol §8.1; reliability §2 (the fault atlas).
"""

import asyncio
from collections.abc import Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from copycat.errors import ConfigurationError, CopycatError
from copycat.raft.core.raft import Raft
from copycat.raft.inquiry.changes import change_members
from copycat.raft.protocol.configuration import Change, ChangeRequest, Configuration, decode_configuration
from copycat.raft.protocol.members import Member
from copycat.raft.server.server import RaftServer
from copycat.testing.loop import Host
from copycat.util.address import Address

if TYPE_CHECKING:
    from copycat.testing.cluster import SimulatedCluster

ADMINISTRATOR = "administrator"  # a host that faults leave alone
LEAVE_SECONDS = 5.0
POLL_SECONDS = 0.1


class SimulatedMembership:
    """Sees and changes the members of a cluster. What it is asked for while `is_changing`, it does not do."""

    def __init__(self, cluster: "SimulatedCluster") -> None:
        self.host: Host | None = None  # the administrator's, once there was something to change
        self._cluster = cluster
        self._asking: asyncio.Task[None] | None = None
        self._joining: dict[str, RaftServer | None] = {}  # and is to have a vote, unless it starts again before

    # -- what is so --------------------------------------------------------------------------------------------------

    @property
    def configuration(self) -> Configuration | None:
        """The latest that is certain; None before there is one."""
        certain = [raft.memberships.at(raft.commit_index) for raft in self._rafts()]
        if not certain:
            return None
        return decode_configuration(max(certain, key=lambda membership: membership.index).body)

    @property
    def members(self) -> list[Member]:
        """All that take part for certain, or as the cluster was set up."""
        configuration = self.configuration
        return list(self._cluster.members) if configuration is None else configuration.all_members

    @property
    def is_changing(self) -> bool:
        """Whether it may become another without anybody asking again."""
        if self._asking is not None and not self._asking.done():
            return True
        rafts = list(self._rafts())
        certain = max((raft.memberships.at(raft.commit_index).index for raft in rafts), default=0)
        return any(raft.membership.index > certain for raft in rafts) or any(map(self._joins, list(self._joining)))

    def has_left(self, name: str) -> bool:
        """Whether this member was removed for certain."""
        configuration = self.configuration
        return configuration is not None and name in configuration.removed

    def may_lose(self, name: str) -> bool:
        """Whether the cluster is as good as new when the disk of this member is lost."""
        voters = self._voters()
        return not self.is_changing and self._may_be(voters, without=name) and self._cluster.nodes[name].may_start

    def may_change(self, change: Change, name: str) -> bool:
        """Whether this may be asked for, and leaves enough to go on with."""
        voters, names = self._voters(), [member.id for member in self.members]
        if self.is_changing or name not in names:
            return False
        if change == Change.PROMOTE:
            return name not in voters and self._cluster.nodes[name].is_whole and self._may_be([*voters, name])
        others = [voter for voter in voters if voter != name]
        return others != [] and (change != Change.DEMOTE or name in voters) and self._may_be(others)

    def _voters(self) -> list[str]:
        configuration = self.configuration
        if configuration is None:
            return [member.id for member in self._cluster.members]
        return [member.id for member in configuration.active_members]

    def _may_be(self, voters: Iterable[str], *, without: str = "") -> bool:
        """Whether those with whole disks are a majority of these."""
        names = list(voters)
        whole = [name for name in names if name != without and self._cluster.nodes[name].is_whole]
        return 2 * len(whole) > len(names)

    def _rafts(self) -> Iterator[Raft]:
        """What each member knows, or knew last."""
        for node in self._cluster.nodes.values():
            for server in (node.server, *(server for _, server in reversed(node.past))):
                if server is not None and server.driver is not None:
                    yield server.driver.raft
                    break

    def _joins(self, name: str) -> bool:
        """Whether it is still on its way: not let in, or without the vote that it will have."""
        names = [member.id for member in self.members]
        if name not in names and not self.has_left(name):
            return True
        server = self._joining[name]
        if server is not None and server is self._cluster.nodes[name].server and name not in self._voters():
            return True
        del self._joining[name]
        return False

    # -- changes -----------------------------------------------------------------------------------------------------

    def joins(self, name: str, *, vote: bool) -> None:
        """A member has been started to join."""
        self._joining[name] = self._cluster.nodes[name].server if vote else None

    def ask(self, change: Change, name: str) -> None:
        """Have it made, if it may be."""
        if change == Change.TRANSFER or self.may_change(change, name):
            self._cluster.note(f"members: {change}", name)
            self._begin(self._ask(ChangeRequest(change, name)))

    def let_leave(self, name: str) -> None:
        """Let a member leave by itself, if it may; whether it lives to do so or not."""
        if self.may_change(Change.REMOVE, name):
            self._cluster.note("members: leave", name)
            self._begin(self._let_leave(name))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        if self.host is None:
            self.host = Host(self._cluster.loop, ADMINISTRATOR)
        if self._asking is not None and not self._asking.done():
            work.close()
        else:
            self._asking = self.host.start(work, name=ADMINISTRATOR)

    async def _ask(self, asked: ChangeRequest) -> None:
        host = self.host
        if host is None:
            return
        addresses = [Address(member.host, member.port) for member in self.members]
        timeout = LEAVE_SECONDS if asked.change == Change.TRANSFER else None
        try:
            await change_members(self._cluster.network.transport(host), addresses, asked, timeout)
        except ConfigurationError:
            pass  # it has become impossible meanwhile
        except CopycatError:
            if timeout is None:
                raise

    async def _let_leave(self, name: str) -> None:
        node, leaving = self._cluster.nodes[name], None
        if node.server is not None and node.host is not None and hasattr(node.server, "identity"):
            host, leaving = node.host, node.host.start(self._leave(node.server), name=f"{name}-leave")
            while not leaving.done() and not host.is_dead:  # noqa: ASYNC110 – a host that dies tells nobody
                await asyncio.sleep(POLL_SECONDS)
        await self._ask(ChangeRequest(Change.REMOVE, name))
        if leaving is not None and leaving.done() and leaving.result():
            node.has_left = True  # else its server finds that out
            node.kill(self._cluster.streams["crash"], power=False)

    async def _leave(self, server: RaftServer) -> bool:
        try:
            await server.leave(LEAVE_SECONDS)
        except CopycatError:
            return False
        return True
