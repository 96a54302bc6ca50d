"""The five properties of Figure 3.2 that Raft guarantees at all times, looked at through a cluster in trouble.

The invariants hold them too, after every step of every test of the core; here they are said in the paper's words and
checked from outside.
"""

from collections.abc import Iterator

import pytest

from tests.raft.core.cluster import CoreCluster
from tests.raft.core.disk import FakeBlock

SEEDS = range(6)


def troubled(seed: int) -> Iterator[CoreCluster]:
    """Five members with lossy links, slow disks, crashes and partitions; seen every few milliseconds."""
    cluster = CoreCluster(5, seed=seed)
    draw = cluster.random
    for turn in range(40):
        cluster.loss = draw.choice([0.0, 0.1, 0.3])
        match draw.randrange(5):
            case 0:
                cluster.heal()
            case 1:
                cluster.isolate(cluster.leader() or draw.choice(cluster.names))
            case 2:
                name = cluster.leader() or draw.choice(cluster.names)
                cluster.kill(name)
                cluster.start(name)
            case _:
                cluster.nodes[draw.choice(cluster.names)].flush_ms = draw.choice([(1, 3), (20, 200)])
        for name in cluster.names:
            cluster.propose(name, f"{name}{turn}".encode())
        for _ in range(20):
            cluster.run(10)
            yield cluster


def committed(cluster: CoreCluster, name: str) -> list[tuple[int, int]]:
    """Term and checksum of each block that a member holds committed."""
    node = cluster.nodes[name]
    commit = node.raft.commit_index if node.raft else 0
    return [(block.term, block.chain) for block in node.blocks if block.last_index <= commit]


@pytest.mark.paper("3.2")
@pytest.mark.parametrize("seed", SEEDS)
def test_at_most_one_leader_is_elected_in_a_term(seed: int) -> None:
    """Election safety."""
    leaders: dict[int, str] = {}
    for cluster in troubled(seed):
        for name, node in cluster.nodes.items():
            if node.raft is not None and node.raft.is_leader:
                assert leaders.setdefault(node.raft.term, name) == name
    assert len(leaders) > 1


@pytest.mark.paper("3.2")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_leader_only_appends_to_its_log(seed: int) -> None:
    """Leader append-only."""
    seen: dict[tuple[str, int], list[FakeBlock]] = {}
    for cluster in troubled(seed):
        for name, node in cluster.nodes.items():
            if node.raft is not None and node.raft.is_leader:
                before = seen.get((name, node.raft.term), [])
                assert node.blocks[: len(before)] == before
                seen[name, node.raft.term] = list(node.blocks)
    assert max(len(blocks) for blocks in seen.values()) > 5


@pytest.mark.paper("3.2")
@pytest.mark.parametrize("seed", SEEDS)
def test_logs_that_share_an_entry_are_identical_up_to_it(seed: int) -> None:
    """Log matching. `chain` covers all bodies up to an entry."""
    differed = False
    for cluster in troubled(seed):
        chains: dict[tuple[int, int], int] = {}
        for node in cluster.nodes.values():
            for block in node.blocks:
                assert chains.setdefault((block.last_index, block.term), block.chain) == block.chain
        differed = differed or len({len(node.blocks) for node in cluster.nodes.values()}) > 1
    assert differed


@pytest.mark.paper("3.2")
@pytest.mark.paper("3.6.3")
@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_committed_stands_in_the_log_of_every_later_leader(seed: int) -> None:
    """Leader completeness."""
    known: list[tuple[int, int]] = []
    for cluster in troubled(seed):
        known = max([known, *(committed(cluster, name) for name in cluster.names)], key=len)
        newest = max(node.raft.term for node in cluster.nodes.values() if node.raft)
        for node in cluster.nodes.values():
            if node.raft is not None and node.raft.is_leader and node.raft.term == newest:
                assert [(block.term, block.chain) for block in node.blocks][: len(known)] == known
    assert len(known) > 5


@pytest.mark.paper("3.2")
@pytest.mark.parametrize("seed", SEEDS)
def test_no_two_servers_apply_different_entries_at_an_index(seed: int) -> None:
    """State machine safety."""
    applied: dict[int, tuple[int, int]] = {}
    for cluster in troubled(seed):
        for name in cluster.names:
            for position, entry in enumerate(committed(cluster, name)):
                assert applied.setdefault(position, entry) == entry
    assert len(applied) > 5
