"""For tests of programs built on Copycat, and of Copycat: state machines and resources without servers, bad disks."""

from copycat.testing.harness import Event, StateMachineHarness
from copycat.testing.local import LocalClient, Replicas, connect, local_client

__all__ = ["Event", "LocalClient", "Replicas", "StateMachineHarness", "connect", "local_client"]
