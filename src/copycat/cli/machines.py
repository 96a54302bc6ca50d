"""Which state machines a command needs that makes the state from files: the shipped ones, and those it is told of."""

from argparse import Namespace
from functools import partial

from copycat.cli.server import resources_of
from copycat.cli.settings import Setting, SettingError
from copycat.errors import ConfigurationError
from copycat.raft.machine.codec import ValueCodec
from copycat.raft.machine.executor import Machines
from copycat.raft.machine.host import Clockwork
from copycat.raft.machine.single import SingleMachine
from copycat.raft.protocol.state_machine import StateMachine
from copycat.raft.server.executors import MakeMachines
from copycat.replica import machines_for
from copycat.resource.loading import load_resources

SETTINGS = (
    Setting(
        name="resources",
        metavar="MODULE:CLASS",
        is_list=True,
        default=(),
        help="a resource or state machine of your own that the servers allow; may be repeated",
    ),
    Setting(
        name="machine",
        metavar="MODULE:CLASS",
        help="the one state machine of servers that serve no resources (RaftServer)",
    ),
)


def machines_of_options(options: Namespace) -> MakeMachines:
    """What the servers ran. Raises SettingError and ConfigurationError."""
    if options.machine is None:
        return machines_for(resources_of(options.resources))
    if options.resources:
        raise SettingError("give either --resources or --machine: servers have one state machine, or resources")
    resources_of(())  # modules are looked for in the working directory, too
    kind = resources_of([options.machine])[0] if ":" in options.machine else load_resources(options.machine)[0]
    if not isinstance(kind, type) or not issubclass(kind, StateMachine):
        raise ConfigurationError(f"--machine {options.machine}: {kind!r} is not a StateMachine class")
    return partial(_single, kind)


def _single(kind: type[StateMachine], clockwork: Clockwork, codec: ValueCodec) -> Machines:
    return SingleMachine(kind(), clockwork, codec)
