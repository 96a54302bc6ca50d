"""Changing who belongs to a cluster, from outside: asked again, of one server after another, until it is certain.

What was asked for and is so already counts as done, so asking again does nothing twice.
"""

import asyncio
from collections.abc import Sequence

from copycat.errors import ConfigurationError, CopycatError, IndeterminateError, NoLeaderError
from copycat.io.transport.transport import Transport
from copycat.raft.inquiry.questions import ask_change
from copycat.raft.protocol.configuration import ChangeOutcome, ChangeRequest
from copycat.util.address import Address

ANSWER_SECONDS = 1.0  # of one server; its answer may be lost with its leader, and asking again does no harm
PAUSE_SECONDS = 0.1


async def change_members(
    transport: Transport, addresses: Sequence[Address], asked: ChangeRequest, timeout: float | None
) -> ChangeOutcome:
    """Have a change of members made, within `timeout` seconds (None: for ever); the configuration it led to.

    Raises: ConfigurationError when it can never be; IndeterminateError when it may have been made or not; NoLeaderError
    when no server took it, or the leader would not yet, and why.
    """
    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout
    reasons: dict[str, str] = {}
    may_be_done = False
    while True:
        for address in addresses:
            rest = ANSWER_SECONDS if deadline is None else min(ANSWER_SECONDS, deadline - loop.time())
            if rest <= 0:
                break
            try:
                outcome = await ask_change(transport, address, asked, rest)
            except TimeoutError as error:
                may_be_done = True
                reasons[str(address)] = str(error)
                continue
            except (CopycatError, OSError) as error:
                reasons[str(address)] = str(error)
                continue
            if not outcome.error:
                return outcome
            if outcome.is_final:
                raise ConfigurationError(outcome.error)
            reasons = {str(address): outcome.error}
            break
        if deadline is not None and loop.time() + PAUSE_SECONDS >= deadline:
            break
        await asyncio.sleep(PAUSE_SECONDS)
    why = "; ".join(f"{address}: {reason}" for address, reason in reasons.items())
    what = f"{asked.change} {asked.member}" if asked.member else str(asked.change)
    if may_be_done:
        raise IndeterminateError(f"{what}: not known whether it was done within {timeout:g} s: {why}")
    raise NoLeaderError(f"{what}: not done within {timeout:g} s: {why}")
