"""Names that are loaded when they are first asked for."""

import subprocess
import sys

import pytest

import copycat
from copycat import raft
from copycat.io.storage.storage import Storage
from copycat.raft.core.config import RaftConfig
from copycat.raft.server.server import RaftServer
from copycat.replica import CopycatReplica


def run(program: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


def test_whoever_imports_copycat_and_opens_a_client_loads_no_server() -> None:
    loaded = run(
        "import sys, copycat; copycat.open('copycat://127.0.0.1:5001'); from copycat.raft import RaftClient; "
        "print(*sorted(sys.modules))"
    ).split()
    assert "copycat.client" in loaded
    rooms = ("copycat.raft.machine.", "copycat.raft.server.", "copycat.raft.core.", "copycat.io.storage.")
    assert [name for name in loaded if name.startswith(rooms)] == []
    assert not {"copycat.replica", "copycat.raft.protocol.messages"}.intersection(loaded)


def test_what_is_loaded_later_is_what_its_module_has() -> None:
    assert copycat.CopycatReplica is CopycatReplica
    assert raft.RaftServer is RaftServer
    assert copycat.Storage is Storage
    assert raft.RaftConfig is RaftConfig
    assert run(
        "from copycat import *; from copycat.raft import *; print(CopycatReplica.__name__, Status.__name__)"
    ) == ("CopycatReplica Status\n")


def test_a_name_that_is_nowhere_is_told_as_of_any_module() -> None:
    with pytest.raises(AttributeError, match=r"^module 'copycat' has no attribute 'CopycatReplicant'$"):
        _ = copycat.CopycatReplicant  # type: ignore[attr-defined]  # just that
    with pytest.raises(ImportError, match=r"cannot import name 'Servant' from 'copycat\.raft'"):
        from copycat.raft import Servant  # type: ignore[attr-defined]  # noqa: F401  # likewise


def test_all_names_are_listed_before_they_are_loaded() -> None:
    assert run("import copycat; print('CopycatReplica' in dir(copycat), 'CopycatReplica' in vars(copycat))") == (
        "True False\n"
    )
