"""One server's place in its cluster: how it joins and leaves, goes by the log's members, and lets another lead.

Source: protocol §2, §8.1; Raft dissertation §3.10, §4.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from copycat.errors import ConfigurationError, CopycatError, ForeignDirectoryError
from copycat.io.transport.transport import Transport
from copycat.raft.core.events import TransferRequested
from copycat.raft.core.membership import Membership
from copycat.raft.core.raft import Raft
from copycat.raft.inquiry.changes import change_members
from copycat.raft.inquiry.questions import ask_cluster
from copycat.raft.protocol.configuration import Change, ChangeOutcome, ChangeRequest, decode_configuration
from copycat.raft.protocol.handshake import Hello, encode_hello
from copycat.raft.protocol.members import Member
from copycat.raft.protocol.wire import Tag
from copycat.raft.server.directory import Directory
from copycat.raft.server.driver import Driver
from copycat.raft.server.identity import Identity
from copycat.raft.server.peers import Peers
from copycat.util.address import Address

_log = logging.getLogger(__name__)

ASK_SECONDS = 1.0
PARTING_SECONDS = 1.0  # how long a link to a member that has left is kept, on which it hears that it has


class Belonging:
    """`given` are the members that this start was told of. `form` starts the driver of a cluster that is known now.

    changed: set whenever who leads may have changed. fail: ends the member. hang_up_on_removed: breaks off calls.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        directory: Directory,
        peers: Peers,
        transport: Transport,
        given: Sequence[Member],
        changed: asyncio.Event,
        form: Callable[[], None],
        fail: Callable[[BaseException], None],
        hang_up_on_removed: Callable[[], None],
    ) -> None:
        self.driver: Driver | None = None  # once the cluster has formed
        self._identity = identity
        self._directory = directory
        self._peers = peers
        self._transport = transport
        self._given = given
        self._changed = changed
        self._form = form
        self._fail = fail
        self._hang_up_on_removed = hang_up_on_removed
        self.is_leaving = False

    @property
    def _own_id(self) -> str:
        return self._identity.member.id

    # -- joining and leaving -----------------------------------------------------------------------------------------

    async def join(self, *, vote: bool) -> None:
        """Be let into the cluster, take part, and ask for a vote until there is one."""
        identity = self._identity
        try:
            outcome = await self._ask(ChangeRequest(Change.ADD, str(identity.member), identity.incarnation), None)
            configuration = decode_configuration(outcome.configuration)
            identity.cluster_id, identity.joins = configuration.cluster_id, False
            identity.configure(configuration, self._given)
            identity.awaits_vote = vote
            self._form()
            self._peers.start()
            await self.get_vote()
        except ConfigurationError as error:
            self._fail(error)

    async def require_same_cluster(self) -> None:
        """That a member which is to join, but belongs to a cluster already, belongs to that of which it was told.

        Arguments stay as they are while members come and go, so all of those may have left: they are asked, if none is
        known. Raises: ForeignDirectoryError.
        """
        identity = self._identity
        strangers = [member for member in self._given if member.id != self._own_id]
        if any(member.id in identity.ids for member in strangers):
            return
        for member in strangers:
            try:
                cluster_id = await ask_cluster(self._transport, Address(member.host, member.port), ASK_SECONDS)
            except (CopycatError, OSError):
                continue
            if cluster_id not in (b"", identity.cluster_id):
                raise ForeignDirectoryError(
                    f"{self._own_id}'s directory belongs to cluster {identity.cluster_name} of "
                    f"{', '.join(identity.ids)}, and {member} to cluster {cluster_id.hex()[:8]}, which is to be "
                    "joined: join with an empty directory"
                )

    async def get_vote(self) -> None:
        """Ask for the vote that a member which has joined is to have, until there is one.

        A leader that refuses knows of this member's removal, which may still be taken back: once that is certain, the
        members say so themselves.
        """
        while self._identity.awaits_vote:
            try:
                await self._ask(ChangeRequest(Change.PROMOTE, self._own_id), None)
                return
            except ConfigurationError as error:
                _log.warning("%s gets no vote: %s", self._own_id, error, extra={"member": self._own_id})
                await asyncio.sleep(ASK_SECONDS)

    async def leave(self, timeout: float) -> None:
        """Leave for good. Raises: as `change_members`."""
        self.is_leaving = True
        try:
            await self._ask(ChangeRequest(Change.REMOVE, self._own_id), timeout)
        except BaseException:
            self.is_leaving = False
            raise

    async def _ask(self, asked: ChangeRequest, timeout: float | None) -> ChangeOutcome:
        known = self._identity.members if self._identity.is_formed else self._given
        chosen = [member for member in known if self._identity.is_formed or member.id != self._own_id]
        return await change_members(
            self._transport, [Address(member.host, member.port) for member in chosen], asked, timeout
        )

    # -- what the log says -------------------------------------------------------------------------------------------

    def members_changed(self, membership: Membership) -> None:
        """Others take part, as the log has it: dial them, and know them at the next start."""
        if self.driver is not None:
            self._identity.configure(decode_configuration(membership.body), self._given)
            self._identity.removed = certainly_removed(self.driver.raft)
            self._save_members()
            self._peers.start()

    def _save_members(self) -> None:
        if self.driver is not None:
            self.driver.save(self._directory.save_members(self._identity))

    def configured(self, index: int, body: bytes) -> None:
        """That is certain. A member that was removed has nothing left to do."""
        configuration = decode_configuration(body)
        removed = self._identity.removed = tuple(configuration.removed)
        if self._identity.awaits_vote and self._own_id in [member.id for member in configuration.active_members]:
            self._identity.awaits_vote = False
            self._save_members()
        asyncio.get_running_loop().call_later(PARTING_SECONDS, self._part)
        if self._own_id in removed and not self.is_leaving:
            self._fail(
                ForeignDirectoryError(
                    f"{self._own_id} was removed from cluster {self._identity.cluster_name} at index {index}: its "
                    "directory is of no more use; to come back, join under another id with an empty one"
                )
            )

    def _part(self) -> None:
        """Those that have left had the time to hear of it as members do."""
        self._peers.forget_others()
        self._hang_up_on_removed()

    def member_moved(self, name: str) -> None:
        """A member has told that it is at another address than before: clients of this one are to hear of it."""
        place = self._identity.places.told[name]
        if place != self._identity.places.recorded.get(name):
            _log.info("%s is at %s now", name, place.address, extra={"member": name, "address": place.address})
        if self.driver is not None:
            self.driver.desk.announce()

    # -- data that went back -----------------------------------------------------------------------------------------

    def save_lives(self) -> None:
        """Know the members' latest starts at the next start, too."""
        if self.driver is not None:
            self.driver.save(self._directory.save_lives(self._identity))

    def outdated(self, hello: Hello, why: str) -> None:
        """Have no vote until a leader has refilled this member, and let the others know which start this is."""
        driver, identity = self.driver, self._identity
        if driver is None:
            return
        word = hello.vouched.get(self._own_id)
        driver.outdated(word.term if word is not None else 0)
        identity.count_past(hello)
        driver.save(self._directory.save_lives(identity, outdated=True))
        self._peers.send_all(bytes([Tag.IDENTITY]) + encode_hello(identity.hello()))
        _log.warning(
            "%s: the data in %s is an older copy, or lacks what was there: %s. It has no vote until a leader has given "
            "it all it lacks. Nothing needs to be done, unless no leader is elected, for which a majority of members "
            "without such data is needed; then see `copycat repair`. Do not put back copies: let new members join",
            self._own_id,
            self._directory.path,
            why,
            extra={"member": self._own_id, "told_by": hello.member_id},
        )

    # -- letting another lead ----------------------------------------------------------------------------------------

    async def hand_over(self, member: str | None, seconds: float) -> bool:
        """Let `member` lead, None: whoever holds most; returns whether this server leads no more."""
        driver = self.driver
        if driver is None or not self._leads(driver):
            return True
        if not any(map(self._peers.is_up, driver.raft.electors)):
            return False
        driver.post(TransferRequested(member))
        try:
            async with asyncio.timeout(seconds):
                while self._leads(driver):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
        return not self._leads(driver)

    def _leads(self, driver: Driver) -> bool:
        return driver.is_running and driver.raft.is_leader


def certainly_removed(raft: Raft) -> tuple[str, ...]:
    """The ids that have left, as far as this member knows for certain."""
    return tuple(decode_configuration(raft.memberships.at(raft.commit_index).body).removed)
