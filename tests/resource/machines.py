"""State machines to test with, and a resource of each way to make one."""

from asyncio import Future
from dataclasses import dataclass
from typing import Any

from copycat.resource import Command, Commit, Executor, Query, Resource, Session, StateMachine

ADD, TOTAL, TELL, SET_TIMER, REMEMBER = 1, 2, 3, 4, 5


class CounterMachine(StateMachine, name="test.counter", version=1):
    """Counts, and remembers what it was told, by whom, where in the log."""

    total: int
    told: list[Any]

    def __init__(self) -> None:
        self.total = 0
        self.told = []

    def configure(self, executor: Executor) -> None:
        self.executor = executor
        executor.register_command(ADD, self.add)
        executor.register_query(TOTAL, self.get_total)
        executor.register_query(TELL, self.tell)
        executor.register_command(SET_TIMER, self.set_timer)
        executor.register_command(REMEMBER, self.remember)

    def add(self, commit: Commit, amount: int) -> list[int]:
        if amount < 0:
            raise ValueError(f"cannot add {amount}")
        self.total += amount
        return [self.total, commit.index, commit.instance]

    def get_total(self, commit: Commit) -> int:
        return self.total

    def tell(self, commit: Commit) -> list[Any]:
        return self.told

    def remember(self, commit: Commit, word: str) -> list[Any]:
        self.told.append(word)
        return self.told

    def set_timer(self, commit: Commit, delay_ms: int) -> None:
        self.executor.schedule(delay_ms, self.fired, "timer")

    def fired(self, word: str) -> None:
        self.told.append([word, self.executor.index, self.executor.time])

    def register(self, session: Session) -> None:
        self.told.append(["register", session.id])

    def expire(self, session: Session) -> None:
        self.told.append(["expire", session.id])
        raise RuntimeError("a hook that fails")

    def close(self, session: Session) -> None:
        self.told.append(["close", session.id])

    def delete(self) -> None:
        if self.total == 13:
            raise RuntimeError("unlucky")


class Counter(Resource, machine=CounterMachine):
    """The quick way: operation ids, no object for each."""

    def add(self, amount: int) -> Future[list[int]]:
        return self.command(ADD, amount, what="add")

    def total(self) -> Future[int]:
        return self.query(TOTAL, what="total")

    def told(self) -> Future[list[Any]]:
        return self.query(TELL, what="told")

    def set_timer(self, delay_ms: int) -> Future[None]:
        return self.command(SET_TIMER, delay_ms, what="set_timer")


@dataclass
class Receipt:
    """What a deposit answers: not registered anywhere."""

    balance: int
    index: int


@dataclass
class Deposit(Command[Receipt], id=1):
    amount: int
    note: str | None = None


@dataclass
class Balance(Query[int], id=2):
    pass


@dataclass
class Notes(Query[Any], id=3):
    pass


@dataclass
class Unnumbered(Command[None]):
    pass


@dataclass
class Broken(Query[int], id=4):
    pass


class Bank(StateMachine, name="test.bank", version=1):
    """The class way: operations are dataclasses."""

    balance: int = 0
    notes: list[str]

    def __init__(self) -> None:
        self.notes = []

    def configure(self, executor: Executor) -> None:
        executor.register(Deposit, self.deposit)
        executor.register(Balance, lambda commit, query: self.balance)
        executor.register(Notes, lambda commit, query: self.notes or None)
        executor.register(Broken, lambda commit, query: "not a number")

    def deposit(self, commit: Commit, command: Deposit) -> Receipt:
        if command.amount <= 0:
            raise ValueError("a deposit must be positive")
        self.balance += command.amount
        self.notes += [command.note] if command.note else []
        return Receipt(self.balance, commit.index)


class BankAccount(Resource, machine=Bank):
    """Operations of the bank, one method each."""

    def deposit(self, amount: int, note: str | None = None) -> Future[Receipt]:
        return self.submit(Deposit(amount, note))
