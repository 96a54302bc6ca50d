"""Copycat: your Python processes agree. Locks, leaders, maps and your own state machines, replicated by Raft."""

from typing import TYPE_CHECKING

from copycat.client import CopycatClient
from copycat.errors import CopycatError
from copycat.handle import Copycat
from copycat.opening import open, open_all
from copycat.raft.client.selection import ConnectionStrategy, ServerSelection
from copycat.raft.client.states import ClientState, Recovery
from copycat.raft.protocol.members import Member
from copycat.raft.protocol.operations import Command, ConsistencyLevel, PersistenceMode, Query
from copycat.raft.protocol.state_machine import Commit, Executor, Session, StateMachine
from copycat.resource.resource import Resource
from copycat.util.later import load_later

if TYPE_CHECKING:
    from copycat.io.storage.storage import Storage, StorageLevel
    from copycat.replica import CopycatReplica
else:
    __getattr__ = load_later(
        __name__,
        {
            "CopycatReplica": "copycat.replica",
            "Storage": "copycat.io.storage.storage",
            "StorageLevel": "copycat.io.storage.storage",
        },
    )

__version__ = "0.1.0"

__all__ = [
    "ClientState",
    "Command",
    "Commit",
    "ConnectionStrategy",
    "ConsistencyLevel",
    "Copycat",
    "CopycatClient",
    "CopycatError",
    "CopycatReplica",
    "Executor",
    "Member",
    "PersistenceMode",
    "Query",
    "Recovery",
    "Resource",
    "ServerSelection",
    "Session",
    "StateMachine",
    "Storage",
    "StorageLevel",
    "open",
    "open_all",
]


def __dir__() -> list[str]:
    return __all__
