"""Swarm testing: each seed draws a cluster of its own, a workload and a mix of faults, and is judged in the end.

First the faults: whatever happens, nothing acknowledged is lost, nothing happens twice, and no invariant breaks. Then
everything is mended, and the cluster has to be as good as new within a bound: a leader, every pending call ended, all
members in one state.

    report = run_seed(7)
    assert not report.problems, report

Source: reliability §3 "Simulator".
"""

import gc
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from random import Random
from typing import Any

from copycat.errors import CopycatError
from copycat.raft.core.config import RaftConfig
from copycat.testing.cluster import SimulatedCluster, SimulationError, simulate
from copycat.testing.fault import Action
from copycat.testing.faults import FAULTS
from copycat.testing.nemesis import Nemesis
from copycat.testing.network import LinkRule
from copycat.testing.workload import JUDGE, MACHINES, WORKS, Workload

SECONDS = 60.0
"""How long faults go on."""
LIVENESS_SECONDS = 60.0
"""Within this, once nothing hinders it, the cluster must be as good as new."""

DUELS = ("refusing-partition", "old-leader")
DUELS_SHARE = 0.2
"""Of all seeds have these faults alone, by which two believe that they lead: among others they seldom come so far."""

CHANGES = ("join", "remove", "change-vote", "hand-over", "hand-over", "hand-over", "old-leader", "slow-disk", "kill")
CHANGES_SHARE = 0.3
"""Of all seeds have these, by which members change while nobody is certain who leads."""

CHECK_SECONDS = 0.25
"""How often it is looked, while there are faults, whether something has gone wrong by now."""

RARE = ("rot", "wipe", "join", "remove", "change-vote")
"""Drawn twice as often, for few clusters can bear them, and none at any time."""

KINDS_OF_WORK = 4
"""In a seed; all of them would cost twice the time, and find less in it."""
COUNTERS = ("checked", "marks", "messages", "faults")
"""What a report counts by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a seed draws. Times in seconds.

    append_bytes_max: of what one append carries; install_bytes_max: a piece of a snapshot. snapshot_log_size: bytes by
    which a log grows between two. latency: of links, from and to. work: keys of `workload.WORKS`. pace:
    seconds for each call of a kind. faults: keys of `faults.FAULTS`, one of which begins every `fault_pause` on
    average, and lasts `fault_length` at most.
    """

    members: int = 3
    clients: int = 2
    election_timeout_ms: int = 300
    heartbeat_ms: int = 60
    lease_ms: int = 210
    append_bytes_max: int = 1 << 20
    install_bytes_max: int = 256 << 10
    snapshot_log_size: int = 32 << 20
    latency: tuple[float, float] = (0.0005, 0.005)
    session_timeout: float = 2.0
    work: tuple[str, ...] = tuple(WORKS)
    pace: float = 0.3
    fault_pause: float = 1.5
    fault_length: float = 4.0
    faults: tuple[str, ...] = ()

    @classmethod
    def draw(cls, chooser: Random) -> "Settings":
        """Settings as the chooser likes."""
        election = chooser.choice((300, 500, 1000, 2000))
        beats = chooser.choice((3, 5, 8))  # of the leader, within it
        share = chooser.choice((0.2, 0.6))  # a few kinds of faults, each often; or many, mixed
        drawn = cls(
            members=chooser.choice((1, 2, 3, 3, 3, 3, 4, 5)),
            clients=chooser.randint(2, 4),
            election_timeout_ms=election,
            heartbeat_ms=election // beats,
            lease_ms=round(election * chooser.choice((0.7, 0.9) if beats == 3 else (0.5, 0.7))),
            append_bytes_max=chooser.choice((1 << 20, 400)),  # all that a member lacks at once, or block by block
            install_bytes_max=chooser.choice((256 << 10, 1000)),
            snapshot_log_size=chooser.choice((2 << 10, 8 << 10, 32 << 10, 32 << 20)),
            latency=chooser.choice(((0.0001, 0.001), (0.0005, 0.005), (0.002, 0.03))),
            session_timeout=chooser.choice((1.0, 3.0, 5.0)),
            pace=chooser.choice((1.0, 2.0, 3.0)),
            fault_pause=chooser.choice((0.5, 1.5, 4.0)),
            fault_length=chooser.choice((1.0, 4.0, 10.0)),
            faults=tuple(name for name in FAULTS if chooser.random() < (2 * share if name in RARE else share)),
            work=tuple(sorted(chooser.sample(list(WORKS), KINDS_OF_WORK))),
        )
        kind = chooser.random()
        if kind < DUELS_SHARE:
            return drawn._with_duels(chooser)
        return drawn._with_changes() if kind < DUELS_SHARE + CHANGES_SHARE else drawn

    def _with_duels(self, chooser: Random) -> "Settings":
        """These, changed so that two who believe that they lead are as likely as can be, and noticed."""
        election = chooser.choice((1000, 2000))
        return replace(
            self,
            members=chooser.choice((3, 3, 3, 5)),
            clients=4,
            election_timeout_ms=election,
            heartbeat_ms=election // 5,
            lease_ms=election // 2,  # as short as may be: after that another may lead
            append_bytes_max=400,
            fault_pause=4.0,
            fault_length=4.0,
            faults=DUELS,
            work=("ledger", "map", "reads"),
        )

    def _with_changes(self) -> "Settings":
        """These, changed so that members come and go all the time, and it is noticed when somebody takes no heed."""
        return replace(
            self,
            members=3,
            clients=4,
            election_timeout_ms=1000,
            heartbeat_ms=200,
            lease_ms=900,  # as long as may be: for so long nobody reads what another leader wrote
            append_bytes_max=400,
            pace=0.6,
            fault_pause=0.7,
            fault_length=2.0,
            faults=CHANGES,
            work=("map", "reads"),
        )

    def config(self) -> RaftConfig:
        """The times of consensus. Raises ConfigurationError when they do not go together."""
        return RaftConfig(
            election_timeout_ms=self.election_timeout_ms,
            heartbeat_ms=self.heartbeat_ms,
            lease_ms=self.lease_ms,
            append_bytes_max=self.append_bytes_max,
            install_bytes_max=self.install_bytes_max,
        )


@dataclass(slots=True, kw_only=True)
class Report:
    """What became of a seed. `problems` are what must not be; empty: all is well.

    seconds: simulated. events: deliveries, jobs of disks and faults, of which `trace` is the hash. elections: terms
    that had a leader. checked: what the judges looked at. marks: which of MARKS were reached, how often. messages: that
    members received of one another. faults: by kind, what was done and what came of it. actions: the faults that were
    begun, within `fault_seconds`.
    """

    seed: int
    settings: Settings
    fault_seconds: float = SECONDS
    actions: list[Action] = field(default_factory=list, repr=False)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0
    events: int = 0
    steps: int = 0
    elections: int = 0
    invoked: int = 0
    ok: int = 0
    fail: int = 0
    unknown: int = 0
    states_compared: int = 0
    snapshots_compared: int = 0
    cpu_seconds: float = 0.0
    marks: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    trace: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, but for the actions."""
        counters = {name: dict(sorted(getattr(self, name).items())) for name in COUNTERS}
        known = {**asdict(self), **counters}
        del known["actions"]
        return known


def run_seed(
    seed: int,
    *,
    seconds: float = SECONDS,
    settings: Settings | None = None,
    actions: Sequence[Action] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Report:
    """Simulate what this seed draws, with faults for so long. Always returns: what went wrong is in the report.

    settings and actions are given instead of drawn, for example from a `script`. options: more of each RaftServer.
    """
    settings = settings if settings is not None else Settings.draw(Random(f"{seed}/settings"))
    report = Report(seed=seed, settings=settings, fault_seconds=seconds)
    began = time.process_time()  # for the report; nothing depends on it

    async def scenario(cluster: SimulatedCluster) -> None:
        workload, nemesis = Workload(cluster, settings.work, pace=settings.pace), Nemesis(cluster)
        report.actions = nemesis.actions
        try:
            await _run(cluster, workload, nemesis, report, actions)
        except SimulationError as error:
            report.problems.append(str(error))
        finally:
            _gather(cluster, workload, report)

    try:
        with _collected_afterwards():
            simulate(
                scenario,
                settings.members,
                seed=seed,
                resources=MACHINES,
                config=settings.config(),
                rule=LinkRule(latency=settings.latency),
                storage={"snapshot_log_size": settings.snapshot_log_size},
                options=options,
            )
    except Exception as error:
        if not report.problems:
            report.problems.append(f"{type(error).__name__}: {error}")
    report.cpu_seconds = time.process_time() - began
    return report


@contextmanager
def _collected_afterwards() -> Iterator[None]:
    """What refers to itself is collected in the end: in between it costs a sixth of the time, and a seed needs a few
    dozen megabytes."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
            gc.collect(0)  # all that has been made meanwhile is of the youngest generation


def _gather(cluster: SimulatedCluster, workload: Workload, report: Report) -> None:
    known = "; ".join(report.problems)
    report.problems += [problem for problem in cluster.problems if problem not in known]
    report.seconds = cluster.loop.now
    report.events, report.trace = cluster.trace.events, cluster.trace.digest
    report.steps = cluster.invariants.steps
    report.elections = len(cluster.invariants.leaders)
    report.states_compared = cluster.invariants.states_compared
    report.snapshots_compared = cluster.invariants.snapshots_compared
    report.faults = Counter(cluster.faults)
    report.marks, report.messages = cluster.invariants.marks.reached, cluster.invariants.marks.messages
    counts = workload.counts
    report.invoked, report.ok, report.fail, report.unknown = counts.invoked, counts.ok, counts.fail, counts.unknown
    report.checked = workload.figures


async def _run(
    cluster: SimulatedCluster,
    workload: Workload,
    nemesis: Nemesis,
    report: Report,
    actions: Sequence[Action] | None,
) -> None:
    settings, seconds = report.settings, report.fault_seconds
    for number in range(1, settings.clients + 1):
        beside = f"client-{number - 2}" if number > 2 else None  # they share their connections
        await workload.begin(f"client-{number}", beside=beside, session_timeout=settings.session_timeout)
    if actions is None:
        chooser = cluster.streams["faults"]
        nemesis.draw(chooser, settings.faults, pause=settings.fault_pause, length=settings.fault_length)
    else:
        nemesis.follow(actions)
    try:
        end = cluster.loop.now + seconds
        await cluster.until(lambda: cluster.loop.now >= end, 2 * seconds, "the end of the faults", every=CHECK_SECONDS)
    finally:
        nemesis.stop()
    await _recover(cluster, workload, settings)
    workload.stop()
    await cluster.until(lambda: not workload.living, LIVENESS_SECONDS, "pending calls to end")
    await _conclude(cluster, workload)
    await cluster.until(workload.is_settled, LIVENESS_SECONDS, "all events to be heard")
    await cluster.level()
    report.problems += workload.verdicts()


async def _recover(cluster: SimulatedCluster, workload: Workload, settings: Settings) -> None:
    """34: nothing hinders it any more, so the cluster makes progress."""
    cluster.heal()
    for name, node in cluster.nodes.items():
        if node.may_start:
            cluster.start(name)
    await cluster.elected(LIVENESS_SECONDS)
    await cluster.until(lambda: not cluster.membership.is_changing, LIVENESS_SECONDS, "members that are certain")
    for name in cluster.stranded():
        cluster.crash(name)
    if all(cluster.hosts[name].is_dead for name in cluster.clients):
        await workload.begin("client-anew", session_timeout=settings.session_timeout)
    before, calls = workload.counts.ok, 5 * len(settings.work)
    await cluster.until(lambda: workload.counts.ok > before + calls, LIVENESS_SECONDS, "calls to be answered")


async def _conclude(cluster: SimulatedCluster, workload: Workload) -> None:
    """A client that knows nothing looks at what there is."""
    client = await cluster.client(JUDGE)
    try:
        await cluster.run_on(JUDGE, workload.conclude(client))
    except CopycatError as error:
        raise SimulationError(f"what there is cannot be read in the end: {error}") from error
