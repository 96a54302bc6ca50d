"""Chance, by name: every source of randomness of a simulation, drawn from one seed."""

import random


class Streams:
    """Random generators by name. Each is independent of the others, and the same for the same seed, everywhere.

    What is drawn from one stream changes nothing in another: a fault more does not reshuffle the workload.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._streams: dict[str, random.Random] = {}

    def __getitem__(self, name: str) -> random.Random:
        """The stream of this name: the same object at every call."""
        stream = self._streams.get(name)
        if stream is None:
            # Text is hashed by SHA-512 there, not by `hash`: PYTHONHASHSEED has no part in it.
            stream = self._streams[name] = random.Random(f"{self.seed}/{name}")
        return stream
