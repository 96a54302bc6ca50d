"""Mistakes about what is held: locks, their tokens, and when a client must count them as lost."""

from tests.canaries.canary import Canary

RESOURCES = (
    Canary(
        name="The token of a lock is the session that holds it",
        module="copycat.coordination.line",
        before="self._token = max(self._executor.index, self._token + 1)",
        after="self._token = claim.session.id",
        danger="a store that keeps the highest token lets an earlier holder write",
        judges=("21", "22"),
    ),
)
