"""The page that says which test shows which section is what the tests say."""

from tests.paper.table import PAGE, SECTIONS, Shown, marked, page, scenarios


def test_the_page_is_what_the_tests_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/reference/paper.md is stale: make fix"


def test_every_section_named_is_one_of_the_page_s_and_has_a_test() -> None:
    tests = marked()
    assert sorted(tests) == sorted(SECTIONS)
    assert set(scenarios()) <= set(SECTIONS)
    assert sum(map(len, tests.values())) >= 40


def test_a_rule_is_the_name_of_its_test_as_a_sentence() -> None:
    assert Shown("f", 1, "test_a_leader_s_own_vote_isn_t_sent").rule == "A leader's own vote isn't sent"
