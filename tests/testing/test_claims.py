"""The store that a lock or a leadership guards sees what must not be."""

from copycat.testing.workload.claims import Store


def test_tokens_that_grow_from_holder_to_holder_are_right() -> None:
    store = Store("21")

    store.grant("ann", 3)
    store.use("ann", 3)
    store.grant("bob", 5)
    store.use("bob", 5)
    store.grant("ann", 8)

    assert store.violations == []
    assert store.grants == 3


def test_whoever_learns_late_that_it_was_granted_breaks_no_rule_until_it_uses_it() -> None:
    store = Store("21")
    store.grant("bob", 5)

    store.grant("ann", 3)
    assert store.violations == []

    store.use("ann", 3)
    assert store.violations == ["21: ann holds by token 3 while another has 5"]


def test_no_token_is_granted_twice_be_it_long_ago() -> None:
    store = Store("22")
    for who, token in (("ann", 3), ("bob", 5)):
        store.grant(who, token)

    store.grant("bob", 3)

    assert store.violations == ["22: bob was granted token 3, as ann was before"]


def test_the_tokens_of_one_client_never_fall() -> None:
    store = Store("21")
    store.grant("ann", 5)

    store.grant("ann", 3)

    assert store.violations == ["21: ann was granted token 3 after 5"]
