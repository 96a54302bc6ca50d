"""Whatever a client gets into the log: no member stops, every replica answers alike, and the next client is served."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copycat.io.serializer import Serializer
from copycat.raft.machine.executor import Results
from copycat.raft.machine.host import Clockwork
from copycat.raft.protocol.entries import ItemKind, pack_types
from copycat.raft.protocol.operations import Failure
from copycat.raft.protocol.wire import decode_results, encode_msgpack, join_array
from copycat.replica import SHIPPED
from copycat.resource.loading import machines_of
from copycat.resource.manager import ResourceManager
from copycat.resource.operations import CATALOG, CREATE, EXISTS
from copycat.testing.replicas import Replica, ReplicatedLog
from tests.fuzz.support import DOCUMENTS, TIMEOUT, damaged, fuzz

pytestmark = pytest.mark.timeout(TIMEOUT)

MACHINES = machines_of(SHIPPED)
OPERATIONS = range(24)  # more than any machine has
FIRST_RESOURCE = 3  # what comes before: the types, and the session that creates


def replica() -> Replica:
    clockwork = Clockwork()
    return Replica(clockwork, ResourceManager(clockwork, Serializer(), MACHINES))


class Stage:
    """Two replicas, one resource of each shipped type, and a session to talk to them."""

    def __init__(self) -> None:
        self.log = ReplicatedLog(replica, count=2)
        types = [(each.type_name, each.type_version) for each in MACHINES]
        self.log.append(ItemKind.TYPES, 0, 0, 0, 1, pack_types(types))
        self.session = self.log.register()
        self.sequence = 0
        for name, version in types:
            (created,) = self.say(encode_msgpack([[CATALOG, 0, CREATE, name, name, version, 1]]))
            assert not isinstance(created, Failure), created

    def say(self, blob: bytes, count: int = 1) -> list[object]:
        """The results of a batch."""
        outcome = self.log.append(ItemKind.COMMANDS, self.session, self.sequence + 1, 0, count, blob)
        self.sequence += count
        assert isinstance(outcome, Results)
        found = decode_results(outcome.data)
        assert len(found) == count
        return found


TARGETS = st.integers(FIRST_RESOURCE, FIRST_RESOURCE + len(MACHINES) - 1) | st.just(CATALOG)
ARGUMENTS = DOCUMENTS | st.integers(0, 70).map(encode_msgpack) | st.binary(max_size=3).map(encode_msgpack)
STRANGE_OPERATIONS = st.builds(
    lambda target, instance, operation, arguments: join_array(
        [*map(encode_msgpack, (target, instance, operation)), *arguments]
    ),
    TARGETS,
    st.integers(0, 2),
    st.sampled_from(OPERATIONS),
    st.lists(ARGUMENTS, max_size=5),
)
BATCHES = st.lists(STRANGE_OPERATIONS, min_size=1, max_size=6).map(lambda each: (join_array(each), len(each)))
STRANGE_BATCHES = BATCHES | st.tuples(damaged(BATCHES.map(lambda each: each[0])) | DOCUMENTS, st.integers(1, 3))


@fuzz
@given(batches=st.lists(STRANGE_BATCHES, min_size=1, max_size=5), seconds=st.sampled_from([0, 1, 1e9]))
def test_nothing_a_client_can_get_into_the_log_stops_a_member(batches: list[tuple[bytes, int]], seconds: float) -> None:
    stage = Stage()
    for blob, count in batches:
        stage.say(blob, count)
        stage.log.advance(seconds)
    stage.log.end(stage.session, expired=True)
    other = stage.log.register()

    stage.session, stage.sequence = other, 0
    for target, machine in enumerate(MACHINES, FIRST_RESOURCE):
        (found,) = stage.say(encode_msgpack([[target, 0, 999]]))
        assert isinstance(found, Failure), machine
    (created,) = stage.say(encode_msgpack([[CATALOG, 0, CREATE, "after/all", MACHINES[0].type_name, 1, 1]]))
    assert not isinstance(created, Failure)
    for each in stage.log.replicas:
        assert each.executor.query(None, encode_msgpack([[CATALOG, 0, EXISTS, "after/all"]]), 1) == b"\x91\xc3"


@fuzz
@given(queries=STRANGE_BATCHES)
def test_no_query_changes_or_stops_anything(queries: tuple[bytes, int]) -> None:
    stage = Stage()
    first, second = stage.log.replicas

    found = first.executor.query(None, *queries)

    assert found == second.executor.query(None, *queries)
    assert found is None or len(decode_results(found)) == queries[1]
    assert first.executor.applied_index == stage.log.index
