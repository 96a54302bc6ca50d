"""Changes of members and of the leader, as the dissertation has them: §3.10, §4.

One test a rule, in the paper's words. The finer points are in the scenarios member_*.txt and transfer*.txt.
"""

import pytest

from copycat.raft.core.effects import ChangeRefused, MembershipChanged, Send
from copycat.raft.core.events import ChangeProposed, TransferRequested
from copycat.raft.protocol.messages import TimeoutNow, VoteRequest
from tests.raft.core.cluster import CoreCluster
from tests.raft.core.disk import list_of
from tests.raft.core.member import committed, messages, ready


def voters(cluster: CoreCluster, name: str) -> tuple[str, ...]:
    raft = cluster.nodes[name].raft
    assert raft is not None
    return raft.voters


@pytest.mark.paper("3.10")
def test_a_leader_hands_over_to_a_member_that_is_level_without_an_election_timeout() -> None:
    member = ready()
    (sent,) = [effect for effect in member.step(TransferRequested("b")) if isinstance(effect, Send)]
    assert (sent.member, sent.message) == ("b", TimeoutNow(term=3))


@pytest.mark.paper("4.1")
def test_a_list_is_in_force_when_it_is_appended_and_no_other_follows_before_it_is_committed() -> None:
    member = ready()
    effects = member.step(ChangeProposed(list_of("abcd")))
    assert [effect.membership.active for effect in effects if isinstance(effect, MembershipChanged)] == [tuple("abcd")]
    assert member.raft.voters == tuple("abcd")
    effects = member.step(ChangeProposed(list_of("abc")))
    assert [effect.reason for effect in effects if isinstance(effect, ChangeRefused)] == [
        "the change at index 4 is not committed yet"
    ]


@pytest.mark.paper("4.2")
def test_servers_answer_requests_of_others_whatever_list_they_go_by() -> None:
    member = ready()
    effects = member.hear("x", VoteRequest(term=9, last_index=99, last_term=8, transfer=True))
    member.persist()
    assert member.raft.vote == "x"
    assert effects


@pytest.mark.paper("4.2.1")
def test_a_new_server_is_brought_level_without_being_counted() -> None:
    cluster = CoreCluster(3)
    cluster.join("d")
    leader = cluster.elect()
    cluster.propose(leader, b"before")
    cluster.run(100)
    cluster.change(leader, "abc", "d")
    cluster.run(1_000)
    assert voters(cluster, "d") == tuple("abc")
    assert b"before" in cluster.nodes["d"].acknowledged
    for name in "abc":
        if name != leader:
            cluster.kill(name)
    cluster.propose(leader, b"by two of four, one without a vote")
    cluster.run(400)
    assert b"by two of four, one without a vote" not in cluster.nodes[leader].acknowledged


@pytest.mark.paper("4.2.2")
def test_a_leader_that_leaves_leads_until_that_is_committed_without_counting_itself() -> None:
    member = ready()
    member.step(ChangeProposed(list_of("bc")))
    member.flush()
    assert committed(member.answer("b")) == []
    effects = member.answer("c")
    assert committed(effects) == [4]
    assert [message for _, message in messages(effects) if isinstance(message, TimeoutNow)]
    assert member.raft.role.name == "follower"


@pytest.mark.paper("4.2.2")
def test_who_is_not_in_its_newest_list_still_campaigns_while_that_is_not_committed() -> None:
    """b has no vote by its own list, and y, which has the only one, lacks the entry that says so."""
    cluster = CoreCluster(2, seed=3)
    leader = cluster.elect()
    other = "b" if leader == "a" else "a"
    cluster.isolate(other)
    cluster.change(leader, [other])
    cluster.run(50)
    assert voters(cluster, leader) == (other,)
    cluster.kill(leader)
    cluster.heal()
    cluster.start(leader)
    again = cluster.elect(20_000)
    cluster.run(1_000)
    assert voters(cluster, again) == (other,) or again == other
