"""Whoever brings the faults into a simulation: drawn from a seed, or as they are written down.

Either way they are done by the same calls at the same times, so what was drawn and is done again from `actions` leaves
the same trace. Whatever begins also ends, at the latest when `stop` is called and the cluster is healed.
"""

from collections.abc import Sequence
from random import Random

from copycat.testing.cluster import SimulatedCluster
from copycat.testing.fault import DIGITS, Action, Chance, End
from copycat.testing.faults import FAULTS

SOONEST = 10**-DIGITS  # or what is rounded would lie in the past


class Nemesis:
    """Brings faults into a cluster from `draw` or `follow` until `stop`. `actions`: what it has done, in order."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self.cluster = cluster
        self.actions: list[Action] = []
        self._is_over = False

    def draw(self, chooser: Random, kinds: Sequence[str], *, pause: float, length: float) -> None:
        """Begin: faults of these kinds (keys of FAULTS), one after another, some at a time. Without kinds, none.

        pause: seconds between the beginnings of two, on average. length: the most that one lasts.
        """
        loop, chance = self.cluster.loop, Chance(self.cluster, chooser, length)

        def wait() -> None:
            loop.call_at_true(round(loop.now + SOONEST + chooser.expovariate(1 / pause), DIGITS), act)

        def act() -> None:
            if self._is_over:
                return
            name = chooser.choice(kinds)
            arguments = FAULTS[name].draw(chance)
            if arguments is not None:
                until = round(loop.now + chance.seconds(0.05, length), DIGITS) if FAULTS[name].lasts else None
                self._do(Action(at=loop.now, fault=name, arguments=arguments, until=until))
            wait()

        if kinds:
            wait()

    def follow(self, actions: Sequence[Action]) -> None:
        """Begin: these, in the order of their times. What is late already is done at once."""
        ordered = sorted(actions, key=lambda action: action.at)
        loop = self.cluster.loop

        def wait(number: int) -> None:
            if number < len(ordered):
                loop.call_at_true(ordered[number].at, act, number)

        def act(number: int) -> None:
            if not self._is_over:
                self._do(ordered[number])
                wait(number + 1)

        wait(0)

    def stop(self) -> None:
        """Begin nothing more, and end nothing more by itself: all will be healed."""
        self._is_over = True

    def _do(self, action: Action) -> None:
        self.actions.append(action)
        end = FAULTS[action.fault].begin(self.cluster, **action.arguments)
        if end is not None and action.until is not None:
            self.cluster.loop.call_at_true(action.until, self._end, end)

    def _end(self, end: End) -> None:
        if not self._is_over:
            end()
