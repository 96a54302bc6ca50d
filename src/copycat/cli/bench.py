"""`copycat bench`: how fast three servers on this host are, and what a put costs."""

import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from copycat import __version__
from copycat.cli.bench_client import GO, MAP, READY, Job
from copycat.cli.command import Command
from copycat.cli.cpu import cpu_seconds
from copycat.cli.settings import Setting, positive_integer, positive_number
from copycat.cli.text import figure, markdown_table
from copycat.client import CopycatClient
from copycat.errors import CopycatError, NoLeaderError
from copycat.raft.client.survey import ask_all, summary
from copycat.raft.protocol.members import parse_members
from copycat.testing.processes import LocalCluster, clean_environment

SETTINGS = (
    Setting(name="rounds", metavar="N", parse=positive_integer, default=3, help="medians are over so many rounds (3)"),
    Setting(name="seconds", metavar="S", parse=positive_number, default=3.0, help="length of each measurement (3)"),
    Setting(name="clients", metavar="N", parse=positive_integer, help="client processes when pipelined (1 and 4)"),
    Setting(name="in-flight", metavar="N", parse=positive_integer, help="operations each has under way (256 and 1024)"),
    Setting(name="value-bytes", metavar="N", parse=positive_integer, default=100, help="size of a value (100)"),
    Setting(
        name="members",
        metavar="LIST",
        help="measure this running cluster instead; writes to map copycat-bench, and deletes it in the end",
    ),
)

EPILOG = """\
example: copycat bench --rounds 1 --seconds 2

Without --members it starts three servers of its own on this host, with data in a temporary directory. Clients are
processes of their own. CPU is user and system time of whole processes, per operation.

exit status: 0 measured; 1 could not; 2 wrong usage; 130 interrupted.
"""

KEYS = 10_000
"""Each client writes and reads so many keys, over and over: the state stays small, the log grows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One measurement: so many client processes doing one job."""

    name: str
    job: Job
    clients: int = 1


def cases_of(options: Namespace, addresses: str) -> list[Case]:
    """What to measure."""
    one = Job(
        members=addresses,
        kind="put",
        in_flight=1,
        seconds=options.seconds,
        value_bytes=options.value_bytes,
        keys=KEYS,
        client=0,
    )
    cases = [Case(name="put, one at a time", job=one)]
    for clients in [options.clients] if options.clients else [1, 4]:
        for in_flight in [options.in_flight] if options.in_flight else [256, 1024]:
            name = f"put, {clients} × {in_flight} in flight"
            cases.append(Case(name=name, job=replace(one, in_flight=in_flight), clients=clients))
    cases.append(Case(name="get, one at a time", job=replace(one, kind="get")))
    in_flight = options.in_flight or 1024
    many = replace(one, kind="get", in_flight=in_flight)
    cases.append(Case(name=f"get, 1 × {in_flight} in flight", job=many))
    return cases


class Bench:
    """Runs cases against a cluster. `servers` maps ids to process ids, of those that run on this host."""

    def __init__(self, addresses: str, servers: Mapping[str, int], progress: Callable[[str], None]) -> None:
        self._members = parse_members(addresses)
        self._servers = servers
        self._progress = progress

    async def run(self, cases: Sequence[Case], rounds: int) -> list[dict[str, Any]]:
        """The medians over `rounds` of every case. Rounds go through all cases, so that a slow minute hits all."""
        results: dict[str, list[dict[str, Any]]] = {case.name: [] for case in cases}
        for number in range(1, rounds + 1):
            for case in cases:
                self._progress(f"round {number} of {rounds}: {case.name}")
                results[case.name].append(await self._measure(case))
        return [{"case": name, **medians(measured)} for name, measured in results.items()]

    async def _measure(self, case: Case) -> dict[str, Any]:
        leader = await self._leader()
        clients = [await spawn(replace(case.job, client=number)) for number in range(case.clients)]
        try:
            await asyncio.gather(*(expect(client, READY) for client in clients))
            before = {name: cpu_seconds(process_id) for name, process_id in self._servers.items()}
            for client in clients:
                tell(client, GO)
            found = await asyncio.gather(*(answer(client) for client in clients))
            after = {name: cpu_seconds(process_id) for name, process_id in self._servers.items()}
        finally:
            for client in clients:
                if client.returncode is None:
                    client.kill()
                    await client.wait()
        if await self._leader() != leader:
            raise CopycatError(f"{case.name}: the leader changed meanwhile; run it again on a quieter machine")
        count = sum(each["count"] for each in found)
        used = {name: difference(before[name], after[name]) for name in self._servers}
        followers = [seconds for name, seconds in used.items() if name != leader]
        return {
            "per_second": sum(each["count"] / each["seconds"] for each in found),
            "median_ms": statistics.median(each["median_ms"] for each in found),
            "p99_ms": max(each["p99_ms"] for each in found),
            "cpu_us_leader": per_operation(used.get(leader), count),
            "cpu_us_follower": per_operation(mean(followers), count),
            "cpu_us_client": per_operation(sum(each["cpu_seconds"] for each in found), count),
        }

    async def _leader(self) -> str:
        cluster = summary(await ask_all(self._members, timeout=3.0))
        if cluster["leader"] is None:
            raise NoLeaderError(f"there is no leader to measure: {cluster['why_no_leader']}")
        return str(cluster["leader"])


# -- client processes --------------------------------------------------------------------------------------------------


async def spawn(job: Job) -> asyncio.subprocess.Process:
    """Start a client process; it says READY when it may be told GO, and answers with one line of JSON."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "copycat", "bench-client", json.dumps(job.as_dict())),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=clean_environment(),
        start_new_session=True,
    )


def tell(client: asyncio.subprocess.Process, word: str) -> None:
    """Send a word to a client."""
    if client.stdin is not None:
        client.stdin.write(f"{word}\n".encode())


async def expect(client: asyncio.subprocess.Process, word: str) -> None:
    """Wait for a word from a client. Raises CopycatError if it says something else, or ends."""
    heard = await _line(client)
    if heard != word:
        raise CopycatError(f"a client process said {heard!r} instead of {word!r}; what went wrong is on stderr")


async def answer(client: asyncio.subprocess.Process) -> dict[str, Any]:
    """The result of a client, which then ends."""
    heard = await _line(client)
    await client.wait()
    if not heard:
        raise CopycatError("a client process ended without a result; what went wrong is on stderr")
    return dict(json.loads(heard))


async def _line(client: asyncio.subprocess.Process) -> str:
    return (await client.stdout.readline()).decode().strip() if client.stdout is not None else ""


# -- numbers -----------------------------------------------------------------------------------------------------------


def medians(measured: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Each figure's median over the rounds; None where a round has none."""
    figures = {}
    for name in measured[0]:
        values = [each[name] for each in measured]
        figures[name] = None if None in values else round(statistics.median(values), 3)
    return figures


def difference(before: float | None, after: float | None) -> float | None:
    """What was used between two readings, if both are known."""
    return None if before is None or after is None else after - before


def mean(values: Sequence[float | None]) -> float | None:
    """The mean, if there are values and all are known."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def per_operation(seconds: float | None, count: int) -> float | None:
    """Microseconds for each of `count` operations."""
    return None if seconds is None or not count else seconds * 1e6 / count


# -- the command -------------------------------------------------------------------------------------------------------


async def _against(
    addresses: str, servers: Mapping[str, int], options: Namespace, progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    results = await Bench(addresses, servers, progress).run(cases_of(options, addresses), options.rounds)
    async with CopycatClient(addresses) as client:
        await client.delete(MAP)
    return results


async def _on_this_host(options: Namespace, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="copycat-bench-") as directory:
        cluster = LocalCluster(Path(directory))
        try:
            cluster.start()
            await cluster.wait_for_leader()
            servers = {name: cluster.process_id(name) for name in cluster.members}
            return await _against(cluster.addresses, servers, options, progress)
        finally:
            cluster.kill()


def run(options: Namespace) -> int:
    """Measure and print."""

    def progress(text: str) -> None:
        if not options.json:
            print(text, file=sys.stderr, flush=True)

    if options.members:
        results = asyncio.run(_against(options.members, {}, options, progress))
    else:
        results = asyncio.run(_on_this_host(options, progress))
    if options.json:
        print(
            json.dumps({"machine": machine(), "rounds": options.rounds, "seconds": options.seconds, "results": results})
        )
    else:
        print(describe(results))
    return 0


def machine() -> dict[str, Any]:
    """What was measured on."""
    return {
        "copycat": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
    }


def describe(results: Sequence[Mapping[str, Any]]) -> str:
    """The results as a Markdown table."""
    head = ["", "per second", "median ms", "p99 ms", "leader µs", "follower µs", "client µs"]
    rows = [
        [
            result["case"],
            figure(result["per_second"]),
            figure(result["median_ms"], 2),
            figure(result["p99_ms"], 2),
            *(figure(result[name], 1) for name in ("cpu_us_leader", "cpu_us_follower", "cpu_us_client")),
        ]
        for result in results
    ]
    return markdown_table(head, rows)


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


COMMAND = Command(
    name="bench",
    summary="measure puts and gets, and what they cost",
    settings=SETTINGS,
    epilog=EPILOG,
    arguments=_arguments,
    run=run,
    prefix="COPYCAT_BENCH_",
)
