"""Who listens to a resource, on the servers.

A handle in a program registers with the state machine, by a command, for what its `Subscription` is about; the state
machine publishes to whoever is registered, and forgets those whose session ends.

Source: protocol §6.
"""

from collections.abc import Hashable, Iterator
from typing import Any

from copycat.raft.protocol.state_machine import Commit, Derived, Executor, Session
from copycat.resource.parts import iter_parts, rows

Handle = tuple[int, int]  # session id, instance


class _Topics(dict[int, dict[tuple[Hashable, int], None]], Derived):
    """session -> its topics, with the instance: `by_topic` by session, in whatever order."""


class Audience:
    """The handles that listen, by topic: one kind of event, say, or one kind and one key.

    `by_topic` is for looking: `if audience.by_topic` is the cheapest way to learn whether anybody listens.
    """

    def __init__(self) -> None:
        self.by_topic: dict[Hashable, dict[Handle, Session]] = {}
        self._topics = _Topics()

    def add(self, commit: Commit, topic: Hashable) -> None:
        """The handle of this commit listens; once, however often it says so."""
        self._add(commit.session, commit.instance, topic)

    def _add(self, session: Session, instance: int, topic: Hashable) -> None:
        self.by_topic.setdefault(topic, {})[session.id, instance] = session
        self._topics.setdefault(session.id, {})[topic, instance] = None

    def remove(self, commit: Commit, topic: Hashable) -> None:
        """The handle of this commit does not listen, or not any more."""
        topics = self._topics.get(commit.session.id, {})
        if (topic, commit.instance) in topics:
            del topics[topic, commit.instance]
            if not topics:
                del self._topics[commit.session.id]
            self._forget(topic, (commit.session.id, commit.instance))

    def leave(self, session: Session) -> None:
        """The session has ended."""
        for topic, instance in self._topics.pop(session.id, ()):
            self._forget(topic, (session.id, instance))

    def publish(self, executor: Executor, topic: Hashable, event_id: int, *arguments: object) -> int:
        """Tell every handle that listens to the topic, in the order they came. Returns how many there are."""
        handles = self.by_topic.get(topic)
        if handles is None:
            return 0
        for (_, instance), session in handles.items():
            executor.publish(session, instance, event_id, *arguments)
        return len(handles)

    def end(self, executor: Executor, event_id: int) -> None:
        """Tell every handle, once, that nothing more will be published, and forget all."""
        everybody = {handle: session for handles in self.by_topic.values() for handle, session in handles.items()}
        for (_, instance), session in everybody.items():
            executor.publish(session, instance, event_id)
        self.by_topic.clear()
        self._topics.clear()

    def snapshot(self) -> Iterator[list[Any]]:
        """Parts of a snapshot, as of now. Topics must be what a serializer encodes."""
        handles = [(topic, *handle) for topic, handles in self.by_topic.items() for handle in handles]
        return iter_parts(handles)

    def restore(self, executor: Executor, part: list[Any]) -> None:
        """Take one part, in its order, of those that `snapshot` made."""
        for topic, session_id, instance in rows(part, 3):
            session = executor.session(session_id)
            if session is None:
                raise ValueError(f"session {session_id} listens, and is not open")
            self._add(session, instance, topic)

    def _forget(self, topic: Hashable, handle: Handle) -> None:
        handles = self.by_topic[topic]
        del handles[handle]
        if not handles:
            del self.by_topic[topic]
