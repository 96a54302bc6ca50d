"""Forming a cluster by incarnations: protocol §2."""

import itertools

import msgspec
import pytest

from copycat.errors import ForeignDirectoryError, HandshakeError
from copycat.raft.protocol.members import parse_members
from copycat.raft.server.identity import Identity, cluster_id_of

MEMBERS = parse_members("a=h1:5001,b=h2:5001,c=h3:5001")


def fresh(name: str, life: int = 1) -> Identity:
    return Identity(
        member=next(member for member in MEMBERS if member.id == name),
        members=MEMBERS,
        incarnation=f"{name}{life}".encode().ljust(16, b"."),
    )


def formed() -> dict[str, Identity]:
    members = {name: fresh(name) for name in "abc"}
    for one, other in itertools.permutations(members.values(), 2):
        one.hear(other.hello())
    return members


def test_a_cluster_forms_when_every_listed_member_was_heard_and_each_computes_the_same_id() -> None:
    a, b, c = fresh("a"), fresh("b"), fresh("c")
    assert not a.hear(b.hello())
    assert not a.is_formed
    assert a.hear(c.hello())
    assert b.hear(a.hello())  # formed already: adopted
    assert c.hear(b.hello())
    assert a.cluster_id == b.cluster_id == c.cluster_id == cluster_id_of(a.incarnations)
    assert list(a.incarnations) == ["a", "b", "c"]


def test_the_same_member_heard_twice_does_not_stand_for_another() -> None:
    a = fresh("a")
    a.hear(fresh("b").hello())
    assert not a.hear(fresh("b", life=2).hello())
    assert not a.is_formed


def test_a_list_of_one_forms_alone_at_once() -> None:
    (member,) = parse_members("a=h1:5001")
    alone = Identity(member=member, members=[member], incarnation=b"i" * 16)
    assert alone.form_if_all_heard()
    assert not alone.form_if_all_heard()


def test_members_started_with_different_lists_do_not_form_a_cluster() -> None:
    two = parse_members("a=h1:5001,b=h2:5001")
    b = Identity(member=two[1], members=two, incarnation=b"b" * 16)
    with pytest.raises(HandshakeError, match="b was started with members a, b, but a with a, b, c: start every member"):
        fresh("a").hear(b.hello())


def test_a_wiped_member_is_refused_by_those_who_know_its_earlier_life() -> None:
    members = formed()
    with pytest.raises(
        HandshakeError,
        match=r"b's directory is new, but cluster \w{8} knows another b: remove b, then join",
    ):
        members["a"].hear(fresh("b", life=2).hello())


def test_a_wiped_member_that_meets_its_old_cluster_stops() -> None:
    with pytest.raises(ForeignDirectoryError, match=r"b's directory is new, but cluster .* knows another b"):
        fresh("b", life=2).hear(formed()["a"].hello())


def test_a_member_the_cluster_never_listed_stops() -> None:
    members = parse_members("a=h1:5001,b=h2:5001,c=h3:5001,d=h4:5001")
    d = Identity(member=members[3], members=members, incarnation=b"d" * 16)
    with pytest.raises(ForeignDirectoryError, match="does not list d"):
        d.hear(formed()["a"].hello())


def test_another_cluster_is_refused_by_name() -> None:
    other = formed()["b"]
    other.cluster_id = b"x" * 16
    with pytest.raises(HandshakeError, match=r"b belongs to cluster 78787878, a to cluster .*: check addresses"):
        formed()["a"].hear(other.hello())


def test_two_processes_with_one_id_are_told_apart() -> None:
    with pytest.raises(HandshakeError, match="two members call themselves 'a'"):
        fresh("a").hear(fresh("a", life=2).hello())


def test_versions_without_overlap_are_refused_naming_both() -> None:
    hello = msgspec.structs.replace(fresh("b").hello(), versions=(7, 9))
    with pytest.raises(HandshakeError, match="this side speaks 1 to 1, the other 7 to 9"):
        fresh("a").hear(hello)


def test_types_are_common_only_when_every_member_has_announced_its_own() -> None:
    a, b, c = fresh("a"), fresh("b"), fresh("c")
    a.types = b.types = (("map", 1), ("bank", 1))
    c.types = (("map", 1),)
    a.hear(b.hello())
    assert a.common_types() is None
    a.hear(c.hello())
    assert a.common_types() == [("map", 1)]
