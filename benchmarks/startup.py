"""How long it takes to begin: the import, the first write; and what a replica takes that does nothing."""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.benchmark import Benchmark, BenchmarkError, Case, Options, Picture, Plan
from benchmarks.cluster import resident
from benchmarks.figures import Column
from copycat.cli.measuring import Figures
from copycat.client import CopycatClient
from copycat.collections import DistributedMap
from copycat.testing.processes import LocalCluster

MILLISECONDS = Column("ms", "ms", 1)
MODULES = Column("modules", "modules")
MEMORY = Column("mib", "MiB", 1)
REPEATS = 10

MEASURED = """
import json, sys, time
from pathlib import Path
before, began = len(sys.modules), time.perf_counter()
{program}
took = time.perf_counter() - began
lines = Path("/proc/self/status").read_text().splitlines() if Path("/proc/self/status").exists() else []
kib = [int(line.split()[1]) for line in lines if line.startswith("VmRSS:")]
print(json.dumps([took * 1000, len(sys.modules) - before, kib[0] / 1024 if kib else None]))
"""

PROGRAMS = {
    "import asyncio": "import asyncio",
    "import copycat": "import copycat",
    "import copycat, map and lock": """
import copycat
from copycat.collections import DistributedMap
from copycat.coordination import DistributedLock
""",
    "one replica on disk, to its first write": """
import asyncio, tempfile
import copycat
from copycat.collections import DistributedMap

async def main(directory):
    async with copycat.open(directory) as cc:
        values = await cc.create("m", DistributedMap[str, int])
        await values.put("k", 1)

with tempfile.TemporaryDirectory(dir=sys.argv[1]) as directory:
    asyncio.run(main(directory))
""",
}


@asynccontextmanager
async def prepare(options: Options) -> AsyncIterator[Plan]:
    yield Plan(
        [
            *(program(options, name) for name in PROGRAMS),
            Case("three servers, from starting them to the first write", lambda: first_write(options)),
        ]
    )


def program(options: Options, name: str) -> Case:
    """A program in an interpreter of its own, again and again: the time of its lines alone, and its memory after."""

    async def measure() -> Figures:
        runs = [await run(PROGRAMS[name], options.directory) for _ in range(options.pick(REPEATS, 1))]
        memory = [mib for _, _, mib in runs if mib is not None]
        return {
            "ms": statistics.median(ms for ms, _, _ in runs),
            "modules": runs[0][1],
            "mib": statistics.median(memory) if memory else None,
        }

    return Case(name, measure)


async def run(text: str, directory: Path) -> tuple[float, int, float | None]:
    """Milliseconds, modules imported, and MiB of memory."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", MEASURED.format(program=text), str(directory)), stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise BenchmarkError("a program ended with an error; what went wrong is on stderr")
    milliseconds, modules, mib = json.loads(output)
    return milliseconds, modules, mib


async def first_write(options: Options) -> Figures:
    """Three servers with nothing on their disks, until a client that has waited for them has written. `mib` is that of
    the largest server, which has done nothing else."""
    with tempfile.TemporaryDirectory(prefix="copycat-benchmark-", dir=options.directory) as directory:
        cluster = LocalCluster(Path(directory))
        try:
            began = time.perf_counter()
            cluster.start()
            async with CopycatClient(cluster.addresses) as client:
                values = await client.create("m", DistributedMap[str, int])
                await values.put("k", 1)
                took = time.perf_counter() - began
            await cluster.wait_for_leader()
            memory = resident({name: cluster.process_id(name) for name in cluster.members})
        finally:
            cluster.kill()
    return {"ms": took * 1000, "modules": None, "mib": None if memory is None else memory / (1 << 20)}


BENCHMARK = Benchmark(
    name="startup",
    question="How long it takes to begin, and the memory in use once begun; of three servers, that of the largest.",
    columns=(MILLISECONDS, MODULES, MEMORY),
    picture=Picture(MILLISECONDS),
    prepare=prepare,
)
