"""What `copycat status` makes of the members' answers."""

import json
from typing import Any

import pytest

from copycat.cli.main import main
from copycat.cli.status import describe
from copycat.raft.client import survey
from copycat.raft.client.survey import ask_all, summary
from copycat.raft.protocol.members import Member, parse_members
from tests.cli.support import one_member


def answer(id: str, *, term: int, leader: str | None, role: str = "follower", why: str | None = None) -> dict[str, Any]:
    return {
        "id": id,
        "role": role,
        "term": term,
        "leader": leader,
        "why_no_leader": why,
        "commit_index": 1234,
        "applied_index": 1230,
        "snapshot_index": 900,
        "checked_index": 800,
        "sessions": 8,
        "unreachable": {},
    }


def test_the_leader_is_who_the_highest_term_says() -> None:
    stale = answer("a", term=3, leader="a", role="leader")
    cluster = summary({"a": stale, "b": answer("b", term=4, leader=None), "c": answer("c", term=4, leader="b")})

    assert (cluster["leader"], cluster["term"], cluster["why_no_leader"]) == ("b", 4, None)


def test_a_leader_of_an_old_term_does_not_count() -> None:
    stale = answer("a", term=3, leader="a", role="leader")
    cluster = summary({"a": stale, "b": answer("b", term=4, leader=None, role="candidate", why="an election is on")})

    assert (cluster["leader"], cluster["why_no_leader"]) == (None, "an election is on")


def test_members_of_one_mind_say_once_why_there_is_no_leader() -> None:
    members = {name: answer(name, term=1, leader=None, why="2 of 3 are needed") for name in "ab"}

    assert summary(members)["why_no_leader"] == "2 of 3 are needed"


def test_nobody_there_is_told_with_each_reason() -> None:
    cluster = summary({"a": {"unreachable": "connection refused"}, "b": {"unreachable": "name not found"}})

    assert cluster["leader"] is None
    assert cluster["term"] == 0
    assert cluster["why_no_leader"] == "no member answered: a: connection refused; b: name not found"


def test_what_a_person_should_look_at_stands_below_the_table() -> None:
    low = answer("b", term=2, leader="a") | {"space_problem": "member b has 0.5 MiB left", "snapshot_problem": None}
    cluster = summary({"a": answer("a", term=2, leader="a", role="leader"), "b": low})

    assert describe(cluster).splitlines()[-2:] == ["a leads term 2", "b: member b has 0.5 MiB left"]


def test_the_table_shows_members_that_answered_and_those_that_did_not() -> None:
    members = {"a": answer("a", term=2, leader="a", role="leader"), "b": {"unreachable": "connection refused"}}

    assert describe(summary(members)).splitlines() == [
        "id   role     term   commit   applied   snapshot   checked   sessions",
        "a    leader      2     1234      1230        900       800          8",
        "b    unreachable: connection refused",
        "a leads term 2",
    ]


async def test_members_that_others_know_of_are_asked_too_and_go_by_their_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"a": "h1:1", "b": "h2:1", "c": "h3:1"}
    there = {"h1:1": "a", "h3:1": "c"}

    async def ask(member: Member, timeout: float) -> dict[str, Any]:
        if member.address not in there:
            return {"unreachable": "connection refused"}
        return {**answer(there[member.address], term=1, leader="a"), "members": known}

    monkeypatch.setattr(survey, "ask", ask)
    answers = await ask_all(parse_members("h1:1,h2:1"), timeout=1.0)

    assert list(answers) == ["a", "b", "c"]
    assert answers["b"] == {"unreachable": "connection refused"}
    assert answers["c"]["id"] == "c"


async def test_members_that_are_at_other_addresses_for_one_another_are_counted_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As behind proxies, or with addresses of a network of their own."""
    inside = {"a": "10.0.0.1:1", "b": "10.0.0.2:1", "c": "10.0.0.3:1"}
    there = {"h1:1": "a", "h2:1": "b", "10.0.0.3:1": "c"}

    async def ask(member: Member, timeout: float) -> dict[str, Any]:
        if member.address not in there:
            return {"unreachable": "no answer within 1 s"}
        return {**answer(there[member.address], term=1, leader="a"), "members": inside}

    monkeypatch.setattr(survey, "ask", ask)
    answers = await ask_all(parse_members("a=h1:1,b=h2:1,c=h3:1"), timeout=1.0)

    assert {name: found["id"] for name, found in answers.items()} == {"a": "a", "b": "b", "c": "c"}


def test_status_of_nobody_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    address = one_member().removeprefix("a=")

    assert main(["status", f"a={address}", "--json"]) == 1

    cluster = json.loads(capsys.readouterr().out)
    assert cluster["leader"] is None
    assert "refused" in cluster["members"]["a"]["unreachable"]
    assert cluster["why_no_leader"].startswith("no member answered")
