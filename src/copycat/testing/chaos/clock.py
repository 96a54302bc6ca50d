"""A wall clock that jumps, for one process: a library, loaded into it, that adds to what CLOCK_REALTIME says.

Only that: timers, waits and the other clocks are the system's own. (libfaketime touches those as well, so that Python's
threads wait wrongly for one another: servers under it were ten to eighty times slower.)
"""

import shutil
import struct
import subprocess
import sys
from pathlib import Path

from copycat.errors import CopycatError

SHIFT_FILE = "CHAOS_CLOCK_FILE"  # in the environment: where the library finds how many seconds to add
_SHIFT = struct.Struct("=q")

SOURCE = f"""\
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *shift;
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void attach(void)
{{
    const char *path = getenv("{SHIFT_FILE}");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    real_clock_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    if (file < 0)
        return;
    void *found = mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (found != MAP_FAILED)
        shift = found;
}}

int clock_gettime(clockid_t clock, struct timespec *now)
{{
    if (!real_clock_gettime)
        attach();
    int failed = real_clock_gettime(clock, now);
    if (!failed && shift && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += *shift;
    return failed;
}}

int gettimeofday(struct timeval *now, void *zone)
{{
    struct timespec found;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}}

time_t time(time_t *now)
{{
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (now)
        *now = found.tv_sec;
    return found.tv_sec;
}}
"""


class ClockError(CopycatError):
    """Wall clocks cannot be shifted on this machine."""


def build_library(directory: Path) -> Path:
    """Compile the library into `directory`. Raises ClockError that says why not."""
    if sys.platform != "linux":
        raise ClockError("the wall clock of a single process can be shifted on Linux only")
    compiler = shutil.which("cc")
    if compiler is None:
        raise ClockError("there is no C compiler (cc), with which the library that shifts a wall clock is made")
    source, library = directory / "clock.c", directory / "clock.so"
    source.write_text(SOURCE)
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClockError(f"the library that shifts a wall clock cannot be made: {done.stderr.strip()}")
    return library


def set_shift(file: Path, seconds: int) -> None:
    """Let the clock of the process that was started with this file be off by so many seconds, at once."""
    with file.open("r+b" if file.exists() else "wb") as target:  # in place: processes have it mapped
        target.write(_SHIFT.pack(seconds))


def environment(library: Path, file: Path) -> dict[str, str]:
    """What a process needs in its environment; `file` exists."""
    return {"LD_PRELOAD": str(library), SHIFT_FILE: str(file)}
