"""One client process of another system: the same operations, through the client library its users have.

`peer_client SYSTEM JOB` does a job of `copycat.cli.bench_client`, of one session. Whatever the library returns becomes
a future, so that the very same load keeps so many operations under way.
"""

import asyncio
import json
import random
import sys
from asyncio import Future
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Protocol

from benchmarks.peer_servers import ETCD, ZOOKEEPER
from copycat.cli.bench_client import CHUNK, Job
from copycat.cli.measuring import Figures, Load, Start, bear
from copycat.util.loop_thread import new_event_loop
from copycat.util.tasks import TaskOwner


class Store(Protocol):
    """What is asked of a system."""

    def put(self, key: str, value: bytes) -> "Future[Any]": ...

    def get(self, key: str) -> "Future[Any]": ...

    def cycle(self) -> "Future[Any]":
        """Take a lock that nobody else wants, and give it back."""


class EtcdStore:
    """aetcd, whose calls are coroutines."""

    def __init__(self, client: Any, job: Job, tasks: TaskOwner) -> None:
        self._client = client
        self._serializable = job.consistency == "SERIALIZABLE"
        self._tasks = tasks

    def put(self, key: str, value: bytes) -> "Future[Any]":
        return self._start(self._client.put(key.encode(), value))

    def get(self, key: str) -> "Future[Any]":
        return self._start(self._client.get(key.encode(), serializable=self._serializable))

    def cycle(self) -> "Future[Any]":
        return self._start(self._cycle())

    async def _cycle(self) -> None:
        lock = self._client.lock(b"alone", ttl=60)
        await lock.acquire()
        await lock.release()

    def _start(self, work: Coroutine[Any, Any, Any]) -> "Future[Any]":
        return self._tasks.start(work, name="call")


class ZooKeeperStore:
    """kazoo, whose calls are made in one thread and answered in another."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()

    def put(self, key: str, value: bytes) -> "Future[Any]":
        return self._start(self._client.set_async(f"/{key}", value))

    def get(self, key: str) -> "Future[Any]":
        return self._start(self._client.get_async(f"/{key}"))

    def create(self, key: str, value: bytes) -> "Future[Any]":
        return self._start(self._client.create_async(f"/{key}", value))

    def cycle(self) -> "Future[Any]":
        return self._loop.run_in_executor(None, self._cycle)

    def _cycle(self) -> None:
        with self._client.Lock("/alone"):
            pass

    def _start(self, called: Any) -> "Future[Any]":
        future: Future[Any] = self._loop.create_future()
        called.rawlink(lambda result: self._loop.call_soon_threadsafe(settle, future, result))
        return future


def settle(future: "Future[Any]", result: Any) -> None:
    """What a call of kazoo's came to, told on the loop."""
    if result.exception is not None:
        future.set_exception(result.exception)
    else:
        future.set_result(result.value)


@asynccontextmanager
async def etcd(job: Job, keys: list[str], value: bytes) -> AsyncIterator[Store]:
    """A client of etcd; when it gets, its keys exist."""
    import aetcd

    host, _, port = job.members.rpartition(":")
    tasks = TaskOwner("etcd")
    async with aetcd.Client(host=host, port=int(port)) as client:
        store = EtcdStore(client, job, tasks)
        if job.kind == "get":
            await in_chunks(keys, lambda key: store.put(key, value))
        try:
            yield store
        finally:
            await tasks.close()


@asynccontextmanager
async def zookeeper(job: Job, keys: list[str], value: bytes) -> AsyncIterator[Store]:
    """A client of ZooKeeper, whose nodes exist."""
    from kazoo.client import KazooClient

    client = KazooClient(hosts=job.members)
    await asyncio.to_thread(client.start, 30)
    try:
        store = ZooKeeperStore(client)
        if await asyncio.to_thread(client.exists, f"/{keys[-1]}") is None:
            await in_chunks(keys, lambda key: store.create(key, value))
        yield store
    finally:
        await asyncio.to_thread(client.stop)
        client.close()


async def in_chunks(keys: list[str], start: Callable[[str], "Future[Any]"]) -> None:
    """Do something with every key, many at once."""
    for at in range(0, len(keys), CHUNK):
        await asyncio.gather(*map(start, keys[at : at + CHUNK]))


STORES = {ETCD.name: etcd, ZOOKEEPER.name: zookeeper}


async def work(system: str, job: Job) -> Figures:
    """Prepare, say READY, wait for GO, and measure."""
    keys = [f"{job.client}-{number}" for number in range(job.keys)]
    value = random.Random(job.client).randbytes(job.value_bytes)
    async with STORES[system](job, keys, value) as store:
        return await bear(Load([start_of(store, job, keys, value)], job.in_flight), job.seconds)


def start_of(store: Store, job: Job, keys: list[str], value: bytes) -> Start:
    """What starts one operation."""
    chance, count = random.Random(job.client), len(keys)
    if job.kind == "cycle":
        return store.cycle
    if job.kind == "get":
        return lambda: store.get(keys[int(chance.random() * count)])
    return lambda: store.put(keys[int(chance.random() * count)], value)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        print(json.dumps(runner.run(work(sys.argv[1], Job(**json.loads(sys.argv[2]))))), flush=True)
