"""Canaries of the collections: what a map promises of one key."""

from tests.canaries.canary import Canary

COLLECTIONS: tuple[Canary, ...] = (
    Canary(
        name="A value is replaced whatever it was",
        module="copycat.collections.map_machine",
        before="if record is None or record.value != old:",
        after="if record is None:",
        danger="of two who compare and set both believe that they were first",
        judges=("10",),
    ),
    Canary(
        name="A value is put although there is one",
        module="copycat.collections.map_machine",
        before="return self._put(commit, key, value, ttl_ms, mode) if existing is None else existing",
        after="return self._put(commit, key, value, ttl_ms, mode) and existing",
        danger="what was there is gone, and whoever put it was told that it stays",
        judges=("10",),
    ),
)
