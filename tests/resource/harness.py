"""A cluster in a dict, as `copycat.testing` ships it; with two replicas, each block shows that they agree."""

from copycat.testing.local import LocalClient, Replicas, connect, local_client
from copycat.testing.local import ResourceReplica as Replica

__all__ = ["LocalClient", "Replica", "Replicas", "connect", "local_client"]
