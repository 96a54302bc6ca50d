"""What of a replica is compared with another, and what is each member's own."""

from copycat.raft.protocol.entries import ItemKind
from copycat.raft.protocol.state_machine import Commit, Executor, StateMachine
from copycat.raft.protocol.wire import encode_operations
from copycat.testing.portrait import picture, picture_differences
from tests.raft.machine.restoring import log_of

TELL = 1


class Herald(StateMachine, name="test.herald", version=1):
    """Publishes what it is told to whoever told it."""

    def configure(self, executor: Executor) -> None:
        executor.register_command(TELL, lambda commit, text: self.tell(executor, commit, text))

    def tell(self, executor: Executor, commit: Commit, text: str) -> None:
        executor.publish(commit.session, 0, 1, text)


def test_a_member_that_has_sent_its_events_is_in_the_same_state_as_one_that_has_yet_to() -> None:
    log = log_of(Herald)
    log.replicas.append(log.make())
    session = log.register()
    log.append(ItemKind.COMMANDS, session, 1, 0, 1, encode_operations([[0, 0, TELL, "hello"]]))
    one, other = (replica.executor for replica in log.replicas)
    one.clockwork.published[session] = None  # as it is until its driver asks; the log has asked both

    assert one.clockwork.published != other.clockwork.published
    assert picture_differences(picture(one), picture(other)) == ""
    assert picture(one) == picture(other)
