"""Whatever becomes of frames, a session's commands are executed at most once and in order, and reported truthfully.

Frames to the servers and from them are lost, repeated and overtaken; connections change, and what was sent on an old
one may still arrive; sessions end; servers are overloaded; commands are taken back. In the end all is well again, and
everything must have its outcome.
"""

import random
from collections import deque

import pytest

from copycat.raft.client.outcomes import Ended, Outcome, Resolved
from copycat.raft.client.session import ClientSession
from copycat.raft.protocol.operations import ConsistencyLevel
from copycat.raft.protocol.wire import Reason
from tests.raft.client.frames import operation
from tests.raft.client.model import HUGE, ODD, Model

SEEDS = 100
STEPS = 800
ROUNDS_MAX = 500


class World:
    """One client, its servers, and everything that may happen between them."""

    def __init__(self, seed: int, *, has_small_disks: bool = False) -> None:
        self.has_small_disks = has_small_disks
        self.chance = random.Random(seed)
        self.now = 0.0
        self.model = Model()
        self.session = ClientSession(timeout_ms=3000, random=random.Random(seed))
        self.connection = 0
        self.up: deque[tuple[int, bytes]] = deque()  # (connection, frame) on the way to the servers
        self.down: list[bytes] = []  # on the way back; what an old connection carried is never read
        self.calls: list[str] = []
        self.asked = 0
        self.fates: dict[str, str] = {}  # word to "resolved", "unknown" or "never"
        self.questions: deque[tuple[str, list[str]]] = deque()  # with the commands called before
        self.seen = 0  # the most commands shown

    def live(self) -> None:
        """Let many things happen, then let all be well."""
        steps = [step for step, weight in STEPS_AND_WEIGHTS for _ in range(weight)]
        if self.has_small_disks:  # what is refused for want of room is believed to have had one copy and one answer
            steps = [step for step in steps if step not in REPETITIONS]
        for _ in range(STEPS):
            self.chance.choice(steps)(self)
        self.recover()

    # -- the program -------------------------------------------------------------------------------------------------

    def call(self) -> None:
        kind = self.chance.choice(["c"] * 60 + [HUGE, ODD])
        for _ in range(self.chance.randint(1, 3)):
            word = f"{kind}{len(self.calls)}"
            self.calls.append(word)
            self.session.command(operation(word), word)

    def ask(self) -> None:
        self.asked += 1
        word = f"q{self.asked}"
        self.questions.append((word, list(self.calls)))
        self.session.query(operation(word), word, self.chance.choice(list(ConsistencyLevel)))

    def take_back(self) -> None:
        if self.session.unsent:
            word = self.chance.choice(self.session.unsent)
            self.session.withdraw({word}.__contains__)
            self.fates[word] = "never"

    def send(self) -> None:
        self.up += [(self.connection, frame) for frame in self.session.take_frames(self.now)]

    def let_time_pass(self) -> None:
        self.now += self.chance.choice([0.01, 0.5, 1.0])

    # -- the way -----------------------------------------------------------------------------------------------------

    def arrive(self) -> None:
        for _ in range(min(self.chance.randint(1, 5), len(self.up))):
            connection, frame = self.up.popleft()
            answers = self.model.serve(frame, connection)
            if connection == self.connection:
                self.down += answers

    def lose_on_the_way(self) -> None:
        if self.up:
            del self.up[self.chance.randrange(len(self.up))]

    def repeat_on_the_way(self) -> None:
        if self.up:
            self.up.insert(self.chance.randint(0, len(self.up)), self.chance.choice(self.up))

    def hear(self) -> None:
        if self.down:
            self.receive(self.down.pop(0))

    def hear_out_of_order(self) -> None:
        if self.down:
            self.receive(self.down.pop(self.chance.randrange(len(self.down))))

    def lose_on_the_way_back(self) -> None:
        if self.down:
            self.down.pop(self.chance.randrange(len(self.down)))

    def repeat_on_the_way_back(self) -> None:
        if self.down:
            self.down.append(self.chance.choice(self.down))

    def change_connections(self) -> None:
        self.session.suspend()
        self.connection += 1
        self.down.clear()
        self.receive(self.model.notice())

    # -- the servers -------------------------------------------------------------------------------------------------

    def tell_of_a_leader(self) -> None:
        self.model.term += self.chance.randint(0, 1)
        self.receive(self.model.notice())

    def tell_of_no_leader(self) -> None:
        self.model.leader = ""
        self.receive(self.model.notice())
        self.model.leader = "b"

    def end_the_session(self) -> None:
        if self.session.id in self.model.sessions:
            self.down.append(self.model.end(self.session.id))

    def change_moods(self) -> None:
        self.model.is_overloaded = self.chance.random() < 0.2
        self.model.query_refusal = self.chance.choice([None, None, None, Reason.STALE, Reason.OVERLOADED])
        self.model.lag = self.chance.randint(0, 10)
        self.model.is_full = self.has_small_disks and self.chance.random() < 0.3

    # -- what is said ------------------------------------------------------------------------------------------------

    def receive(self, frame: bytes) -> None:
        for outcome in self.session.receive(frame, self.now):
            self.check(outcome)

    def check(self, outcome: Outcome) -> None:
        match outcome:
            case Resolved(tokens, values, are_commands=True):
                for word, value in zip(tokens, values, strict=True):
                    assert self.model.executed[word] == value, f"{word} is said to have been executed elsewhere"
                    self.settle(word, "resolved")
                self.seen = max(self.seen, self.executed_until(values[-1]))
            case Resolved(tokens, values, are_commands=False):
                for word, value in zip(tokens, values, strict=True):
                    self.check_answer(word, value)
            case Ended():
                for fate, tokens in (("unknown", outcome.sent), ("never", outcome.unsent + outcome.refused)):
                    for word in tokens:
                        self.settle(word, fate)

    def check_answer(self, word: str, value: int) -> None:
        expected, before = self.questions.popleft()
        assert word == expected, "queries are shown in the order of calls"
        assert value >= self.seen, f"{word} shows a state from before what was shown earlier"
        self.seen = value
        for command in before:
            if self.fates.get(command) in (None, "resolved"):
                assert self.executed_until(self.model.executed[command]) <= value, f"{word} does not see {command}"

    def settle(self, word: str, fate: str) -> None:
        assert word not in self.fates, f"{word} has two outcomes"
        self.fates[word] = fate
        if fate == "resolved":
            order = [each for each in self.calls if self.fates.get(each) == "resolved"]
            assert order[-1] == word, "results are shown in the order of calls"

    def executed_until(self, index: int) -> int:
        return sum(each <= index for each in self.model.executed.values())

    # -- the end -----------------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Late frames arrive, nothing is lost any more, and the client goes on until it waits for nothing."""
        self.model.is_overloaded, self.model.query_refusal, self.model.is_full = False, None, False
        while self.up:
            connection, frame = self.up.popleft()
            self.model.serve(frame, connection)
        self.change_connections()
        for _ in range(ROUNDS_MAX):
            frames = self.session.take_frames(self.now)
            for reply in [reply for frame in frames for reply in self.model.serve(frame, self.connection)]:
                self.receive(reply)
            if not (self.session.unsent or any(self.session.sent()) or self.questions):
                break
            if not frames:
                assert self.session.due < float("inf"), "the client waits for nothing, and has not got everything"
                self.now = self.session.due

    def check_everything(self) -> None:
        assert set(self.fates) == set(self.calls), "every command has its outcome"
        assert not self.questions, "every query has its answer"
        never = {word for word, fate in self.fates.items() if fate == "never"}
        assert not never & set(self.model.executed), "what is said not to have happened did not"
        order = [self.calls.index(word) for word in self.model.executed]
        assert order == sorted(order), "commands are executed in the order of calls"


STEPS_AND_WEIGHTS = [
    (World.call, 20),
    (World.ask, 10),
    (World.take_back, 1),
    (World.send, 40),
    (World.let_time_pass, 6),
    (World.arrive, 40),
    (World.hear, 50),
    (World.hear_out_of_order, 10),
    (World.lose_on_the_way, 2),
    (World.lose_on_the_way_back, 2),
    (World.repeat_on_the_way, 2),
    (World.repeat_on_the_way_back, 2),
    (World.change_connections, 3),
    (World.tell_of_a_leader, 6),
    (World.tell_of_no_leader, 1),
    (World.end_the_session, 1),
    (World.change_moods, 5),
]


REPETITIONS = (World.repeat_on_the_way, World.repeat_on_the_way_back)
"""Of a frame on its connection, which only a test does."""


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_disks_have_no_room_for_is_taken_back_or_executed_once_and_never_both(seed: int) -> None:
    world = World(seed, has_small_disks=True)
    world.live()
    world.check_everything()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_command_is_executed_at_most_once_and_in_order_and_every_outcome_is_true(seed: int) -> None:
    world = World(seed)
    world.live()
    world.check_everything()
