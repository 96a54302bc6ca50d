"""Resources: what programs share by path. All that authors of resources use.

A resource of your own is a StateMachine, which runs on the servers, and a Resource, which programs hold; the shipped
ones are made from nothing else. On the servers: `StateMachine`, `Executor`, `Commit`, `Session`, `Scheduled`. In
programs: `Resource`. Both: `Command` and `Query` classes, or plain operation ids.
"""

from copycat.raft.client.future import CopycatFuture
from copycat.raft.client.states import Loss
from copycat.raft.protocol.operations import Command, ConsistencyLevel, Operation, PersistenceMode, Query
from copycat.raft.protocol.state_machine import Commit, Derived, Executor, Many, Scheduled, Session, StateMachine
from copycat.resource.audience import Audience
from copycat.resource.entries import Entry, update_entry
from copycat.resource.handover import HandoverFuture
from copycat.resource.lifetimes import Lifetime, Lifetimes, encode_lifetime
from copycat.resource.parts import iter_parts, rows, section
from copycat.resource.resource import Resource, ResourceContext, Timeout
from copycat.resource.subscription import OnEnd, OnGap, Subscription, hand_over

__all__ = [
    "Audience",
    "Command",
    "Commit",
    "ConsistencyLevel",
    "CopycatFuture",
    "Derived",
    "Entry",
    "Executor",
    "HandoverFuture",
    "Lifetime",
    "Lifetimes",
    "Loss",
    "Many",
    "OnEnd",
    "OnGap",
    "Operation",
    "PersistenceMode",
    "Query",
    "Resource",
    "ResourceContext",
    "Scheduled",
    "Session",
    "StateMachine",
    "Subscription",
    "Timeout",
    "encode_lifetime",
    "hand_over",
    "iter_parts",
    "rows",
    "section",
    "update_entry",
]
