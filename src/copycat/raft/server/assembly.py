"""What a member is made of once its cluster has formed, put together: log, state, core, driver, desk, snapshots."""

import asyncio
import random
from collections.abc import Callable, Sequence

from copycat.io.storage.storage import Storage, StorageLevel
from copycat.raft.core.config import RaftConfig
from copycat.raft.core.vouched import told
from copycat.raft.machine.executor import Executor
from copycat.raft.machine.snapshot import restore
from copycat.raft.protocol.chunks import decode_chunks
from copycat.raft.protocol.configuration import decode_configuration
from copycat.raft.protocol.members import Member
from copycat.raft.server.backups import Backups
from copycat.raft.server.belonging import certainly_removed
from copycat.raft.server.checks import Checks
from copycat.raft.server.desk import Desk
from copycat.raft.server.directory import Directory
from copycat.raft.server.disk_worker import MakeDiskWorker
from copycat.raft.server.driver import Driver
from copycat.raft.server.identity import Identity
from copycat.raft.server.limits import ServerLimits
from copycat.raft.server.peers import Peers
from copycat.raft.server.snapshots import ServerSnapshots
from copycat.util.clock import Clock


def assemble(
    *,
    directory: Directory,
    peers: Peers,
    identity: Identity,
    given: Sequence[Member],
    storage: Storage,
    config: RaftConfig,
    limits: ServerLimits,
    clock: Clock,
    chance: random.Random,
    make_executor: Callable[[], Executor],
    make_worker: MakeDiskWorker,
    check_ms: int,
    fail: Callable[[BaseException], None],
) -> tuple[Driver, Desk]:
    """A driver, not yet started, and its desk. `identity` learns who belongs to the cluster by what the log says.

    given: the members that the caller named, for their addresses. make_executor: a state to begin with, or to read a
    snapshot into. Raises what opening a log does: CorruptionError, StorageError.
    """
    loop, name = asyncio.get_running_loop(), identity.member.id
    snapshots = directory.open_snapshots()
    newest, log = directory.open_log(snapshots)
    executor = make_executor()
    if newest is not None:
        restore(executor, decode_chunks(newest.chunks()))
    # An election timeout is drawn with every append, for which the system's source is too slow.
    timeouts = random.Random(chance.getrandbits(64))
    now_ms = clock.boottime_ms()
    raft = directory.restore(newest, log, config, timeouts.random, now_ms)
    identity.configure(decode_configuration(raft.membership.body), given)
    identity.removed = certainly_removed(raft)
    identity.vouched = lambda: told(raft)
    driver = Driver(
        raft=raft,
        log=log,
        executor=executor,
        peers=peers,
        clock=clock,
        save_vote=directory.save_vote,
        save_refilled=directory.save_refilled,
        disk=make_worker(f"copycat-{name}-disk", loop),
        background=make_worker(f"copycat-{name}-prewrite", loop),
        on_fatal=fail,
    )
    driver.desk = desk = Desk(driver=driver, peers=peers, identity=identity, limits=limits, chance=chance)
    worker = make_worker(f"copycat-{name}-snapshots", loop)
    driver.snapshots = ServerSnapshots(
        snapshots=snapshots,
        storage=storage,
        member=name,
        worker=worker,
        peers=peers,
        make_executor=make_executor,
        log_bytes=raft.log.size_after(executor.applied_index),
        chance=chance,
        now_ms=now_ms,
        post=driver.post,
        fail=driver.fail,
    )
    desk.checks = Checks(
        driver=driver,
        peers=peers,
        snapshots=snapshots if storage.level is StorageLevel.DISK else None,
        worker=worker,
        interval_ms=check_ms,
        mark=directory.mark_diverged,
    )
    desk.backups = Backups(snapshots, worker, driver.snapshots.taker.ask, driver.wake)
    return driver, desk
