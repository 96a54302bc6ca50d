"""For tests of programs built on Copycat, and of Copycat: state machines and resources without servers, bad disks, and
whole clusters in virtual time, under faults."""

from copycat.testing.cluster import SimulatedCluster, SimulationError, simulate
from copycat.testing.disk import FaultyDisk
from copycat.testing.harness import Event, StateMachineHarness
from copycat.testing.local import LocalClient, Replicas, connect, local_client
from copycat.testing.loop import VirtualLoop
from copycat.testing.network import LinkRule

__all__ = [
    "Event",
    "FaultyDisk",
    "LinkRule",
    "LocalClient",
    "Replicas",
    "SimulatedCluster",
    "SimulationError",
    "StateMachineHarness",
    "VirtualLoop",
    "connect",
    "local_client",
    "simulate",
]
