"""How much CPU a process has used."""

import os
from pathlib import Path


def cpu_seconds(process_id: int) -> float | None:
    """User and system time of all threads of a process so far; None where the system does not tell."""
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text()
    except OSError:
        return None
    # Fields 14 and 15, counted after the name, which may itself hold spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
