"""Random faults against a cluster of cores: whatever happens, no invariant breaks and nothing acknowledged is lost."""

import pytest

from copycat.raft.core.config import RaftConfig
from copycat.raft.core.events import TransferRequested
from tests.raft.core.cluster import CoreCluster


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("more", ["nothing", "snapshots", "members"])
def test_random_faults_never_break_an_invariant_and_the_cluster_recovers(seed: int, more: str) -> None:
    """Crashes, cuts, losses and slow disks at random, then calm: everyone must hold what was acknowledged."""
    config = RaftConfig(notice_ms=0, install_bytes_max=(40, 400)[seed % 2])
    cluster = CoreCluster((3, 3, 5, 4, 2)[seed % 5], seed=seed, config=config)
    if more == "members":
        cluster.join("x", "y", "z")
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
        if more == "members" and draw.random() < 0.3:
            change_members(cluster)
        if more != "nothing" and draw.random() < 0.3:
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
    leader = cluster.nodes[cluster.elect()]
    assert leader.raft is not None
    for member in leader.raft.membership.members:
        assert cluster.nodes[member].state == leader.state
    assert acknowledged <= set(leader.acknowledged)


def change_members(cluster: CoreCluster) -> None:
    """Somebody joins, is given or loses a vote, leaves, or is to lead: whatever a member that leads is asked for."""
    draw = cluster.random
    for node in cluster.nodes.values():
        if node.raft is None or not node.raft.is_leader:
            continue
        active, passive = list(node.raft.membership.active), list(node.raft.membership.passive)
        name = draw.choice(cluster.names)
        dice = draw.random()
        if dice < 0.2:
            cluster.step(node.name, [TransferRequested(draw.choice([None, name]))])
            continue
        if name in active:
            active.remove(name)
            passive += [name] if dice < 0.5 else []
        elif name in passive:
            passive.remove(name)
            active += [name] if dice < 0.7 else []
        else:
            passive.append(name)
        cluster.change(node.name, sorted(active), sorted(passive))
