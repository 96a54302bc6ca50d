"""Changes of members that clients have asked a leader for, each until its outcome is certain.

One is under way at a time. What was asked for and is so already is answered at once, so whoever does not know whether
its request was heard asks again. A leader that steps down answers nothing: the outcome is open, and the next one knows.

Source: protocol §8.1, §10.9.
"""

from collections.abc import Callable

from copycat.errors import ConfigurationError
from copycat.raft.core.events import ChangeProposed, Event, TransferRequested
from copycat.raft.core.leader import Leader
from copycat.raft.core.raft import Raft
from copycat.raft.protocol.configuration import (
    Change,
    ChangeOutcome,
    ChangeRequest,
    Configuration,
    decode_change_request,
    decode_configuration,
)
from copycat.raft.protocol.members import Member
from copycat.raft.protocol.wire import HEADER_CHANGE, Tag, encode_msgpack, unpack
from copycat.raft.server.origins import Origin


class Changes:
    """What one server was asked for while it leads. `post` takes the core's events."""

    def __init__(self, post: Callable[[Event], None]) -> None:
        self._post = post
        self._waiting: dict[bytes, list[tuple[Origin, int]]] = {}  # by the body of the entry

    def ask(self, raft: Raft, origin: Origin, frame: bytes) -> None:
        """Begin what a client's frame asks for, or refuse it. Raises ProtocolError for a frame that cannot be read."""
        _, request = unpack(HEADER_CHANGE, frame)
        asked = decode_change_request(frame[HEADER_CHANGE.size :])
        membership = raft.membership
        configuration = decode_configuration(membership.body)
        try:
            if asked.change == Change.TRANSFER:
                self._transfer(raft, origin, request, asked.member)
                return
            wanted = changed(configuration, asked)
        except ConfigurationError as error:
            is_certain = membership.index <= raft.commit_index  # else another leader may think otherwise
            _answer(origin, request, ChangeOutcome(error=str(error), is_final=is_certain))
            return
        if wanted is configuration or wanted == configuration:
            if membership.index <= raft.commit_index:
                _answer(origin, request, ChangeOutcome(index=membership.index, configuration=membership.body))
            else:
                self._waiting.setdefault(membership.body, []).append((origin, request))
            return
        if asked.change == Change.PROMOTE and (why := _why_behind(raft, asked.member)):
            _answer(origin, request, ChangeOutcome(error=why))
            return
        body = wanted.encode()
        self._waiting.setdefault(body, []).append((origin, request))
        self._post(ChangeProposed(body))

    def refused(self, body: bytes, reason: str) -> None:
        """The core did not append it, for now."""
        self._tell(body, ChangeOutcome(error=reason))

    def applied(self, index: int, body: bytes) -> None:
        """It is committed."""
        self._tell(body, ChangeOutcome(index=index, configuration=body))

    def forget(self, raft: Raft) -> None:
        """This server leads no more: whoever asked asks the next leader. But what is committed is told when applied."""
        membership = raft.membership
        certain = self._waiting.get(membership.body) if membership.index <= raft.commit_index else None
        self._waiting = {membership.body: certain} if certain is not None else {}

    def _transfer(self, raft: Raft, origin: Origin, request: int, name: str) -> None:
        if name == raft.member_id:
            _answer(origin, request, ChangeOutcome(index=raft.commit_index))
        elif name and name not in raft.electors:
            raise ConfigurationError(f"{name} cannot lead: members with a vote are {', '.join(raft.voters)}")
        else:
            self._post(TransferRequested(name or None))
            _answer(origin, request, ChangeOutcome(index=raft.commit_index))

    def _tell(self, body: bytes, outcome: ChangeOutcome) -> None:
        for origin, request in self._waiting.pop(body, []):
            _answer(origin, request, outcome)


def changed(configuration: Configuration, asked: ChangeRequest) -> Configuration:
    """The configuration asked for. Raises ConfigurationError."""
    if asked.change == Change.ADD:
        return configuration.added(Member.parse(asked.member), asked.incarnation)
    if asked.change == Change.PROMOTE:
        return configuration.promoted(asked.member)
    if asked.change == Change.DEMOTE:
        return configuration.demoted(asked.member)
    return configuration.without(asked.member)


def _why_behind(raft: Raft, name: str) -> str | None:
    """Why this member should not have a vote yet: until it is level, its vote would only delay commits."""
    role = raft.role
    progress = role.members.get(name) if isinstance(role, Leader) else None
    if progress is None or not progress.reachable:
        return f"{name} is not connected"
    if progress.probing or progress.transfer is not None or progress.next_index <= raft.log.last_index:
        return f"{name} is not level yet: it holds entries up to {progress.match_index} of {raft.log.last_index}"
    return None


def _answer(origin: Origin, request: int, outcome: ChangeOutcome) -> None:
    origin.send(HEADER_CHANGE.pack(Tag.MEMBERS_CHANGED, request) + encode_msgpack(outcome))
