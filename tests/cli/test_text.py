"""Tables and numbers for people."""

from copycat.cli.demo_view import bar
from copycat.cli.text import figure, markdown_table, table


def test_numbers_stand_to_the_right_and_names_to_the_left() -> None:
    assert table(["name", "count"], [["a", "1,000"], ["long name", "5"]]).splitlines() == [
        "name        count",
        "a           1,000",
        "long name       5",
    ]


def test_a_table_in_markdown() -> None:
    assert markdown_table(["case", "ms"], [["put", "0.5"]]) == "| case | ms |\n| --- | ---: |\n| put | 0.5 |"


def test_a_figure_that_is_not_known_is_a_dash() -> None:
    assert [figure(1234567.8), figure(0.126, 2), figure(None)] == ["1,234,568", "0.13", "–"]


def test_the_bar_stays_within_its_bounds() -> None:
    assert [bar(-1), bar(0.5), bar(2)] == ["░" * 12, "█" * 6 + "░" * 6, "█" * 12]
