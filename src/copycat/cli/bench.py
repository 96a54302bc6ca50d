"""`copycat bench`: how fast three servers on this host are, and what a put costs."""

import asyncio
import json
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from copycat.cli.bench_client import MAP, Job, spawn_client
from copycat.cli.command import Command
from copycat.cli.measuring import machine, measure, medians
from copycat.cli.settings import Setting, positive_integer, positive_number
from copycat.cli.text import figure, markdown_table
from copycat.client import CopycatClient
from copycat.errors import CopycatError, NoLeaderError
from copycat.raft.client.survey import ask_all, summary
from copycat.raft.protocol.members import parse_members
from copycat.testing.processes import LocalCluster

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
        clients = [await spawn_client(replace(case.job, client=number)) for number in range(case.clients)]
        figures = await measure(clients, self._servers, leader)
        if await self._leader() != leader:
            raise CopycatError(f"{case.name}: the leader changed meanwhile; run it again on a quieter machine")
        return figures

    async def _leader(self) -> str:
        cluster = summary(await ask_all(self._members, timeout=3.0))
        if cluster["leader"] is None:
            raise NoLeaderError(f"there is no leader to measure: {cluster['why_no_leader']}")
        return str(cluster["leader"])


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
