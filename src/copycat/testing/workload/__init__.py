"""What the clients of a simulation do, and how it is judged afterwards: one file for each kind of work.

`Workload` is all of it; WORKS are the kinds, by name.
"""

from copycat.testing.workload.ledger import Ledger, LedgerMachine
from copycat.testing.workload.work import JUDGE, Counts, Site, Work
from copycat.testing.workload.workload import MACHINES, WORKS, Workload

__all__ = ["JUDGE", "MACHINES", "WORKS", "Counts", "Ledger", "LedgerMachine", "Site", "Work", "Workload"]
