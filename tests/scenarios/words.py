"""Messages and logs in the words of a scenario."""

from collections.abc import Sequence

from copycat.raft.core.membership import Membership
from copycat.raft.protocol.messages import (
    Append,
    AppendResponse,
    BlockHead,
    Install,
    InstallResponse,
    Message,
    PollRequest,
    PollResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from tests.raft.core.disk import FakeDisk


def terms(blocks: Sequence[BlockHead]) -> str:
    """A log by the terms of its entries."""
    return ",".join(str(block.term) for block in blocks for _ in range(block.count)) or "-"


def log_of(disk: FakeDisk) -> str:
    """A log by the terms of its entries; in brackets the entry it begins behind, unless that is none."""
    index, term, _ = disk.base
    return (f"({index}/{term})" if index else "") + terms(disk.blocks)


def members_of(membership: Membership) -> str:
    """Who takes part; a plus for those without a vote; and who is elsewhere than at first, and where."""
    places = membership.body.decode().split(";")[2:]
    return " ".join([*membership.active, *(f"+{member}" for member in membership.passive), *places])


def positions(blocks: Sequence[BlockHead]) -> str:
    """Blocks as index/term; of many entries as first-last/term."""
    return " ".join(
        f"{block.first_index}{f'-{block.last_index}' if block.count > 1 else ''}/{block.term}" for block in blocks
    )


def message_in_words(message: Message) -> str:
    """One line that says what a message says."""
    match message:
        case PollRequest(term=term, last_index=index, last_term=last_term):
            return f"poll for term {term}, my log ends at {index}/{last_term}"
        case PollResponse(granted=granted, proposed=proposed, term=term):
            return f"poll for term {proposed}: {'yes' if granted else f'no, my term is {term}'}"
        case VoteRequest(term=term, last_index=index, last_term=last_term):
            asked = ", the leader asked for it" if message.transfer else ""
            return f"vote in term {term}, my log ends at {index}/{last_term}{asked}"
        case TimeoutNow(term=term):
            return f"you lead next after term {term}"
        case VoteResponse(granted=granted, term=term):
            return f"vote in term {term}: {'yes' if granted else 'no'}"
        case Append():
            held = positions(message.blocks) or "nothing"
            asks = ", confirm" if message.confirm else ""
            return (
                f"append in term {message.term}, round {message.round}: after {message.previous_index}/"
                f"{message.previous_term} {held}, committed {message.commit_index}{asks}"
            )
        case Install(data=data, offset=offset):
            what = f"bytes {offset} to {offset + len(data)}" if data else "how much have you"
            return (
                f"snapshot {message.index}/{message.last_term} in term {message.term}, {message.serial}: {what} of "
                f"{message.size}"
            )
        case InstallResponse():
            return f"snapshot {message.index} in term {message.term}, {message.serial}: I have {message.offset}"
        case AppendResponse():
            held = (
                f"durable up to {message.match_index}" if message.accepted else f"no, go back to {message.hint_index}"
            )
            refilling = ", being refilled" if message.refilling else ""
            return f"answer in term {message.term} to round {message.round}: {held}{refilling}"
