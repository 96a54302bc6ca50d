"""Raft: consensus, sessions and state machines, usable without the resource layer.

servers = [RaftServer(member, members, Bank, storage=Storage(directory)) for …]
async with RaftClient(members) as client:
    await client.submit(Deposit("ann", 5))
"""

from typing import TYPE_CHECKING

from copycat.raft.client.client import RaftClient
from copycat.raft.client.future import CopycatFuture
from copycat.raft.client.states import ClientState, Recovery
from copycat.util.later import load_later

if TYPE_CHECKING:
    from copycat.raft.core.config import RaftConfig
    from copycat.raft.server.limits import ServerLimits
    from copycat.raft.server.server import RaftServer
    from copycat.raft.server.status import Status
else:
    __getattr__ = load_later(
        __name__,
        {
            "RaftConfig": "copycat.raft.core.config",
            "RaftServer": "copycat.raft.server.server",
            "ServerLimits": "copycat.raft.server.limits",
            "Status": "copycat.raft.server.status",
        },
    )

__all__ = [
    "ClientState",
    "CopycatFuture",
    "RaftClient",
    "RaftConfig",
    "RaftServer",
    "Recovery",
    "ServerLimits",
    "Status",
]


def __dir__() -> list[str]:
    return __all__
