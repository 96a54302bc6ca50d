"""Delays between attempts: growing, bounded, and spread so that many clients do not return at once."""

import random as random_module

from copycat.errors import ConfigurationError


class Backoff:
    """Delays that grow from `minimum_s` by `factor` up to `maximum_s` seconds, each jittered down by up to a half.

    `random` is passed in so that tests repeat. Raises: ConfigurationError unless 0 < minimum <= maximum, factor >= 1.
    """

    def __init__(
        self, minimum_s: float, maximum_s: float, factor: float = 2, *, random: random_module.Random | None = None
    ) -> None:
        if not 0 < minimum_s <= maximum_s:
            raise ConfigurationError(f"backoff needs 0 < minimum <= maximum, not {minimum_s} s and {maximum_s} s")
        if factor < 1:
            raise ConfigurationError(f"backoff factor {factor} is below 1: delays would shrink")
        self._minimum_s = minimum_s
        self._maximum_s = maximum_s
        self._factor = factor
        self._random = random if random is not None else random_module.Random()
        self._ceiling_s = minimum_s

    def next_delay(self) -> float:
        """Seconds to wait before the next attempt: between half the current ceiling and the ceiling."""
        ceiling_s = self._ceiling_s
        self._ceiling_s = min(self._maximum_s, ceiling_s * self._factor)
        return self._random.uniform(ceiling_s / 2, ceiling_s)

    def reset(self) -> None:
        """Start again from the minimum; call it when an attempt succeeded."""
        self._ceiling_s = self._minimum_s
