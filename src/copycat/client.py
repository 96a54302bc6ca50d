"""A Copycat without a server: stateless, connected to whichever server answers."""

import random
from collections.abc import Iterable

from copycat.handle import SESSION_TIMEOUT_SECONDS, TIMEOUT_SECONDS, Copycat
from copycat.io.serializer import Serializer
from copycat.io.transport.transport import Transport
from copycat.raft.client.client import RaftClient
from copycat.raft.client.selection import ConnectionStrategy, ServerSelection
from copycat.raft.client.states import Recovery
from copycat.raft.protocol.members import Member
from copycat.util.builder import Buildable
from copycat.util.clock import Clock


class CopycatClient(Copycat, Buildable):
    """Connects to a cluster. Open it with `async with`, `await client.open()`, or plain `await client`.

    members: some or all of the servers: text ("h1:5001,h2:5001"), strings or Members. One that answers is enough.
    session_timeout: in seconds, after which the cluster ends a session it hears nothing from; within the servers'
        limits, 0.1 to 3600 by default.
    timeout: in seconds, of every call that names none; None: for ever.
    recovery: what to do when the session is lost: Recovery.RECOVER begins another, Recovery.CLOSE closes.
    selection: which server to talk to: ServerSelection.ANY, LEADER or FOLLOWERS. strategy: what to do when none
        answers: ConnectionStrategy.EXPONENTIAL_BACKOFF, FIBONACCI_BACKOFF or ONCE.
    serializer: for your own types; None: the built-in types.
    transport: None for TCP. The clients of one event loop that have one transport, or none, share a connection to each
        server. random: the source of randomness; None for the operating system's. clock: None for the machine's.

    Raises ConfigurationError for what cannot be a member list, or a time that is not positive.
    """

    def __init__(
        self,
        members: str | Iterable[str | Member],
        *,
        session_timeout: float = SESSION_TIMEOUT_SECONDS,
        timeout: float | None = TIMEOUT_SECONDS,
        recovery: Recovery = Recovery.RECOVER,
        selection: ServerSelection = ServerSelection.ANY,
        strategy: ConnectionStrategy = ConnectionStrategy.EXPONENTIAL_BACKOFF,
        serializer: Serializer | None = None,
        transport: Transport | None = None,
        random: random.Random | None = None,
        clock: Clock | None = None,
    ) -> None:
        client = RaftClient(
            members,
            transport=transport,
            session_timeout=session_timeout,
            timeout=timeout,
            recovery=recovery,
            selection=selection,
            strategy=strategy,
            random=random,
            clock=clock,
        )
        super().__init__(client, serializer=serializer, timeout=timeout)
