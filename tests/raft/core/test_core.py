"""The core as a cluster of pure functions: elections, replication, reads, step-down, faults. Virtual time, seeded."""

import pytest

from copycat.raft.core.events import FaultCleared, Received
from copycat.raft.protocol.messages import VoteRequest
from tests.raft.core.cluster import CoreCluster


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_a_cluster_of_any_size_elects_one_leader_and_commits(size: int) -> None:
    cluster = CoreCluster(size, seed=size)
    leader = cluster.elect()
    cluster.propose(leader, b"one")
    cluster.run(500)
    assert all(cluster.bodies(name) == [b"one"] for name in cluster.names)
    assert all(b"one" in node.acknowledged for node in cluster.nodes.values())


@pytest.mark.parametrize(("size", "tolerated"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2)])
def test_a_cluster_survives_a_minority_of_deaths_and_acknowledges_nothing_beyond(size: int, tolerated: int) -> None:
    cluster = CoreCluster(size, seed=size)
    leader = cluster.elect()
    others = [name for name in cluster.names if name != leader]
    for name in others[:tolerated]:
        cluster.kill(name)
    cluster.propose(leader, b"kept")
    cluster.run(300)
    assert b"kept" in cluster.nodes[leader].acknowledged
    if size == 1:
        return
    cluster.kill(others[tolerated])
    cluster.propose(leader, b"lost")
    cluster.run(5_000)
    assert b"lost" not in cluster.nodes[leader].acknowledged
    assert not cluster.nodes[leader].raft.is_leader  # type: ignore[union-attr]  # it is alive, see above


def test_a_new_leader_takes_over_when_the_leader_dies_and_keeps_what_was_committed() -> None:
    cluster = CoreCluster(3, seed=7)
    first = cluster.elect()
    cluster.propose(first, b"kept")
    cluster.run(300)
    cluster.kill(first)
    second = cluster.elect()
    assert second != first
    assert b"kept" in cluster.bodies(second)


def test_an_isolated_leader_steps_down_and_its_uncommitted_tail_is_replaced_on_return() -> None:
    cluster = CoreCluster(3, seed=3)
    old = cluster.elect()
    cluster.isolate(old)
    cluster.propose(old, b"never")
    cluster.run(3_000)
    assert not cluster.nodes[old].raft.is_leader  # type: ignore[union-attr]  # alive
    new = cluster.leader()
    assert new is not None
    cluster.propose(new, b"kept")
    cluster.heal()
    cluster.run(2_000)
    assert cluster.bodies(old) == cluster.bodies(new) == [b"kept"]


def test_a_member_returning_from_isolation_does_not_depose_the_leader() -> None:
    cluster = CoreCluster(3, seed=11)
    leader = cluster.elect()
    term = cluster.nodes[leader].raft.term  # type: ignore[union-attr]  # alive
    away = next(name for name in cluster.names if name != leader)
    cluster.isolate(away)
    cluster.run(5_000)
    cluster.heal()
    cluster.run(3_000)
    assert cluster.leader() == leader
    assert cluster.nodes[leader].raft.term == term  # type: ignore[union-attr]  # alive


def test_a_promised_member_ignores_a_higher_term_from_a_candidate() -> None:
    cluster = CoreCluster(3, seed=5)
    leader = cluster.elect()
    cluster.run(300)
    follower, other = (name for name in cluster.names if name != leader)
    raft = cluster.nodes[follower].raft
    assert raft is not None
    assert raft.promised
    term = raft.term
    cluster.step(follower, [Received(other, VoteRequest(term=term + 5, last_index=10**6, last_term=term + 4))])
    assert raft.term == term


def test_a_read_is_released_only_by_a_round_sent_after_it_arrived() -> None:
    cluster = CoreCluster(3, seed=2)
    leader = cluster.elect()
    cluster.read(leader, "r")
    assert cluster.nodes[leader].reads_ready == []
    cluster.run(50)
    assert [token for token, _ in cluster.nodes[leader].reads_ready] == ["r"]


def test_an_isolated_leader_answers_no_linearizable_read() -> None:
    cluster = CoreCluster(3, seed=2)
    leader = cluster.elect()
    cluster.isolate(leader)
    cluster.read(leader, "r")
    cluster.run(3_000)
    assert cluster.nodes[leader].reads_ready == []
    assert cluster.nodes[leader].reads_refused == ["r"]


@pytest.mark.parametrize("seed", range(20))
def test_a_leader_paused_past_its_timeout_answers_no_read_with_the_input_that_waited(seed: int) -> None:
    cluster = CoreCluster(3, seed=seed)
    old = cluster.elect()
    cluster.read(old, "before")
    cluster.nodes[old].paused = []
    cluster.run(2_000)
    ready = list(cluster.nodes[old].reads_ready)
    cluster.resume(old)
    assert cluster.nodes[old].reads_ready == ready
    assert not cluster.nodes[old].raft.is_leader  # type: ignore[union-attr]  # alive


def test_nothing_is_acknowledged_before_a_majority_has_flushed() -> None:
    cluster = CoreCluster(3, seed=4)
    leader = cluster.elect()
    slow = [leader, next(name for name in cluster.names if name != leader)]
    for name in slow:
        cluster.nodes[name].flush_ms = (300, 300)
    cluster.propose(leader, b"slow")
    cluster.run(290)
    assert b"slow" not in cluster.nodes[leader].acknowledged
    cluster.run(100)
    assert b"slow" in cluster.nodes[leader].acknowledged


def test_a_slow_disk_on_one_follower_delays_nothing() -> None:
    cluster = CoreCluster(3, seed=4)
    leader = cluster.elect()
    cluster.nodes[next(name for name in cluster.names if name != leader)].flush_ms = (300, 300)
    cluster.propose(leader, b"fast")
    cluster.run(60)
    assert b"fast" in cluster.nodes[leader].acknowledged


def test_a_leader_whose_disk_stands_still_steps_down_for_good() -> None:
    cluster = CoreCluster(3, seed=9)
    leader = cluster.elect()
    cluster.nodes[leader].flush_ms = (60_000, 60_000)
    cluster.propose(leader, b"stuck")
    cluster.run(1_500)
    assert not cluster.nodes[leader].raft.is_leader  # type: ignore[union-attr]  # alive


# -- a log that lost what was durable: protocol §1.2 -----------------------------------------------------------------


def damaged_cluster(seed: int) -> tuple[CoreCluster, str, str, str]:
    """Three members with a history; `hurt` is dead and has lost most of it. Returns (cluster, leader, whole, hurt)."""
    cluster = CoreCluster(3, seed=seed)
    leader = cluster.elect()
    for number in range(5):
        cluster.propose(leader, b"%d" % number)
        cluster.run(20)
    cluster.run(300)
    whole, hurt = (name for name in cluster.names if name != leader)
    cluster.kill(hurt)
    cluster.damage(hurt, kept=2)
    return cluster, leader, whole, hurt


def test_a_member_that_lost_durable_blocks_is_refilled_and_then_votes_again() -> None:
    cluster, leader, whole, hurt = damaged_cluster(seed=1)
    cluster.start(hurt)
    raft = cluster.nodes[hurt].raft
    assert raft is not None
    assert raft.role.name == "passive"
    cluster.run(2_000)
    assert raft.role.name == "follower"
    assert cluster.bodies(hurt) == cluster.bodies(leader)
    cluster.kill(leader)
    assert cluster.elect() in (whole, hurt)


def test_a_member_that_lost_durable_blocks_helps_elect_nobody() -> None:
    cluster, leader, whole, hurt = damaged_cluster(seed=2)
    cluster.kill(leader)
    cluster.start(hurt)
    cluster.run(10_000)
    assert cluster.leader() is None
    assert cluster.nodes[whole].raft.term <= cluster.nodes[leader].metadata[0]  # type: ignore[union-attr]  # alive
    cluster.start(leader)
    cluster.elect()
    cluster.run(2_000)
    assert cluster.bodies(hurt) == cluster.bodies(whole)


def test_a_member_being_refilled_starts_over_with_each_new_leader() -> None:
    cluster, leader, whole, hurt = damaged_cluster(seed=3)
    cluster.kill(whole)
    cluster.start(hurt)
    cluster.nodes[hurt].flush_ms = (5_000, 5_000)  # refilled, but not yet durable, when the leader goes
    cluster.run(400)
    raft = cluster.nodes[hurt].raft
    assert raft is not None
    assert raft.role.name == "passive"
    cluster.kill(leader)
    cluster.nodes[hurt].flush_ms = (1, 3)
    cluster.run(1_000)
    assert raft.role.name == "passive"
    cluster.start(leader)
    cluster.start(whole)
    cluster.elect()
    cluster.run(8_000)
    assert raft.role.name in ("follower", "leader")
    assert cluster.bodies(hurt) == cluster.bodies(whole)


def test_a_fault_cleared_means_nothing_to_a_member_that_had_none() -> None:
    cluster = CoreCluster(3, seed=1)
    leader = cluster.elect()
    cluster.step(leader, [FaultCleared()])
    assert cluster.leader() == leader


# -- connections as evidence: protocol §3.3 --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_a_leader_whose_port_refuses_is_replaced_once_its_lease_has_run_out(seed: int) -> None:
    cluster = CoreCluster(3, seed=seed)
    old = cluster.elect()
    cluster.run(1_000)
    cluster.kill(old)
    cluster.tell_dead(old)
    killed = cluster.now
    new = cluster.elect()
    assert new != old
    assert cluster.now - killed < cluster.config.election_timeout_ms


def test_refused_again_and_again_the_members_do_not_all_campaign_at_the_same_moment() -> None:
    terms_needed = []
    for seed in range(40):
        cluster = CoreCluster(3, seed=seed)
        old = cluster.elect()
        cluster.run(1_000)
        term = cluster.nodes[old].raft.term  # type: ignore[union-attr]  # alive
        cluster.kill(old)
        for _ in range(20):
            cluster.tell_dead(old)
            cluster.run(20)
        new = cluster.elect()
        terms_needed.append(cluster.nodes[new].raft.term - term)  # type: ignore[union-attr]  # alive
    assert sum(needed == 1 for needed in terms_needed) >= 34, terms_needed


@pytest.mark.parametrize("seed", range(10))
def test_a_flaky_link_of_one_member_deposes_no_leader(seed: int) -> None:
    cluster = CoreCluster(3, seed=seed)
    leader = cluster.elect()
    witness = next(name for name in cluster.names if name != leader)
    term = cluster.nodes[leader].raft.term  # type: ignore[union-attr]  # alive
    for _ in range(20):
        cluster.tell_dead(leader, witness)
        cluster.run(cluster.random.randint(10, 400))
        cluster.tell_back(leader)
    cluster.run(2_000)
    assert cluster.leader() == leader
    assert cluster.nodes[leader].raft.term == term  # type: ignore[union-attr]  # alive


def test_a_leader_sends_nothing_to_a_member_without_a_link_and_catches_it_up_when_the_link_is_back() -> None:
    cluster = CoreCluster(3, seed=6)
    leader = cluster.elect()
    away = next(name for name in cluster.names if name != leader)
    cluster.isolate(away)
    cluster.tell_dead(away, leader)
    for number in range(20):
        cluster.propose(leader, b"%d" % number)
        cluster.run(30)
    cluster.heal()
    cluster.run(50)
    assert len(cluster.bodies(away)) < 20
    cluster.tell_back(away)
    cluster.run(300)
    assert cluster.bodies(away) == cluster.bodies(leader)


def test_a_member_being_refilled_is_not_moved_by_a_dead_leader() -> None:
    cluster, leader, _, hurt = damaged_cluster(seed=4)
    cluster.start(hurt)
    cluster.kill(leader)
    cluster.tell_dead(leader)
    assert cluster.nodes[hurt].raft.role.name == "passive"  # type: ignore[union-attr]  # alive
