"""A resource of your own: a bank account that every process sees alike, and that never goes below zero."""

import asyncio
from asyncio import Future
from dataclasses import dataclass

import copycat
from copycat.errors import ApplicationError
from copycat.resource import Command, Commit, Executor, Query, Resource, StateMachine


@dataclass
class Deposit(Command[int], id=1):
    amount: int  # may be negative


@dataclass
class Balance(Query[int], id=2):
    pass


class Bank(StateMachine, name="example.bank", version=1):
    """Runs on every server: the same operations in the same order, so the same balance."""

    balance: int = 0  # annotated, so that it is in snapshots

    def configure(self, executor: Executor) -> None:
        executor.register(Deposit, self.deposit)
        executor.register(Balance, lambda commit, query: self.balance)

    def deposit(self, commit: Commit, command: Deposit) -> int:
        if self.balance + command.amount < 0:
            raise ValueError(f"only {self.balance} left")
        self.balance += command.amount
        return self.balance


class BankAccount(Resource, machine=Bank):
    """What programs hold: plain methods, each returning the future of an operation already under way."""

    def deposit(self, amount: int) -> Future[int]:
        return self.submit(Deposit(amount))

    def balance(self) -> Future[int]:
        return self.submit(Balance())


async def main() -> None:
    async with copycat.open(resources=[Bank]) as cc:
        account = await cc.create("account", BankAccount)
        await asyncio.gather(*(account.deposit(10) for _ in range(5)))
        print("balance:", await account.balance())
        try:
            await account.deposit(-60)
        except ApplicationError as refusal:
            print("refused:", refusal)


if __name__ == "__main__":
    asyncio.run(main())
