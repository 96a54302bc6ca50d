"""Random faults against a cluster of cores: whatever happens, no invariant breaks and nothing acknowledged is lost."""

import pytest

from copycat.raft.core.config import RaftConfig
from tests.raft.core.cluster import CoreCluster


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("snapshots", [False, True], ids=["log", "snapshots"])
def test_random_faults_never_break_an_invariant_and_the_cluster_recovers(seed: int, snapshots: bool) -> None:
    """Crashes, cuts, losses and slow disks at random, then calm: everyone must hold what was acknowledged."""
    config = RaftConfig(notice_ms=0, install_bytes_max=(40, 400)[seed % 2])
    cluster = CoreCluster((3, 3, 5, 4, 2)[seed % 5], seed=seed, config=config)
    draw = cluster.random
    acknowledged: set[bytes] = set()
    for step in range(120):
        cluster.run(draw.randint(1, 120))
        dice = draw.random()
        name = draw.choice(cluster.names)
        if dice < 0.08:
            cluster.kill(name)
            if draw.random() < 0.5:
                cluster.tell_dead(name)
        elif dice < 0.2:
            for each in cluster.names:
                if cluster.nodes[each].raft is None:
                    cluster.start(each)
                    cluster.tell_back(each)
        elif dice < 0.25:
            cluster.isolate(name)
        elif dice < 0.28:
            cluster.cut.add((name, draw.choice(cluster.names)))
        elif dice < 0.36:
            cluster.heal()
        elif dice < 0.4:
            cluster.loss = draw.choice([0.0, 0.1, 0.3])
        elif dice < 0.43:
            cluster.nodes[name].flush_ms = draw.choice([(1, 3), (20, 300)])
        else:
            for each in cluster.names:
                if cluster.nodes[each].raft is not None:
                    cluster.propose(each, f"{each}{step}".encode(), draw.randint(1, 4))
        if snapshots and draw.random() < 0.3:
            cluster.take_snapshot(draw.choice(cluster.names), keep=draw.choice([0, 0, 5]))
        for node in cluster.nodes.values():
            acknowledged.update(node.acknowledged)
    cluster.heal()
    cluster.loss = 0.0
    for each in cluster.names:
        cluster.nodes[each].flush_ms = (1, 3)
        if cluster.nodes[each].raft is None:
            cluster.start(each)
    for each in cluster.names:
        cluster.tell_back(each)
    cluster.elect()
    cluster.run(5_000)
    states = [node.state for node in cluster.nodes.values()]
    assert all(state == states[0] for state in states)
    assert acknowledged <= set(cluster.nodes["a"].acknowledged)
