"""Comparison with a program of your own: the least that a replicated write costs on this machine.

`--ceiling PATH` names a Python program, and may go on with arguments of its own: `--ceiling "PATH --flush inline"`. It
is run as `PATH ... IN_FLIGHT SECONDS VALUE_BYTES --clients N --dir DIR`, starts servers that keep their data in DIR,
writes to them, and prints one JSON object: `rate` in writes per second, `p50_ms`, `p99_ms`, and the CPU of each write
in `leader_us`, `follower_us`, `servers_us`, `client_us`.
"""

import asyncio
import json
import subprocess
import sys
import tempfile

from benchmarks.benchmark import BenchmarkError, Case, Options
from copycat.cli.measuring import Figures

KEYS = {
    "per_second": "rate",
    "median_ms": "p50_ms",
    "p99_ms": "p99_ms",
    "cpu_us_leader": "leader_us",
    "cpu_us_follower": "follower_us",
    "cpu_us_servers": "servers_us",
    "cpu_us_client": "client_us",
}


def ceiling(options: Options, name: str, in_flight: int, *, clients: int = 1, value_bytes: int = 100) -> list[Case]:
    """The case of that name, if there is a program to compare with."""
    if not options.ceiling:
        return []
    return [Case(name, lambda: run(options, in_flight, clients, value_bytes))]


async def run(options: Options, in_flight: int, clients: int, value_bytes: int) -> Figures:
    """Run the program once. Raises BenchmarkError."""
    with tempfile.TemporaryDirectory(prefix="copycat-ceiling-", dir=options.directory) as directory:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *options.ceiling, str(in_flight), str(options.seconds), str(value_bytes)),
            *("--clients", str(clients), "--dir", directory),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        output, errors = await process.communicate()
    if process.returncode:
        raise BenchmarkError(
            f"{options.ceiling[0]} ended with exit status {process.returncode}: {errors.decode()[-500:]}"
        )
    found = json.loads(output)
    return {key: found.get(theirs) for key, theirs in KEYS.items()}
