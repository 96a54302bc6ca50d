"""Other systems: how they are started, and what is said when they are not there."""

import sys
from pathlib import Path

import pytest
from benchmarks import peers
from benchmarks.benchmark import Options, run
from benchmarks.peer_servers import ETCD, PYSYNCOBJ, ZOOKEEPER, Peer, etcd, zookeeper


def test_what_is_not_installed_is_left_out_with_a_sentence() -> None:
    assert Peer("Made-up", "no_such_library", "made-up", ()).missing() == (
        "Made-up was left out: no_such_library is not installed (`pip install -e '.[peers]'`)."
    )
    assert Peer("Made-up", "json", "made-up-server", (sys.executable, "no-such-program")).missing() == (
        "Made-up was left out: no-such-program is not there (Debian's package made-up-server)."
    )
    assert Peer("Made-up", "json", "", (sys.executable,)).missing() is None


def test_members_of_etcd_know_one_another(tmp_path: Path) -> None:
    addresses, started = etcd(tmp_path)

    assert len({*addresses}) == len(started) == 3
    clusters = {command[command.index("--initial-cluster") + 1] for command in started}
    assert len(clusters) == 1
    peer_addresses = [command[command.index("--listen-peer-urls") + 1] for command in started]
    assert clusters == {",".join(f"m{number}={address}" for number, address in enumerate(peer_addresses))}
    assert [command[command.index("--listen-client-urls") + 1] for command in started] == [
        f"http://{address}" for address in addresses
    ]


def test_members_of_zookeeper_know_one_another_and_flush(tmp_path: Path) -> None:
    addresses, started = zookeeper(tmp_path)

    settings = [Path(command[-1]).read_text(encoding="utf-8") for command in started]
    ports = [address.rpartition(":")[2] for address in addresses]
    assert all(f"clientPort={port}\n" in text for port, text in zip(ports, settings, strict=True))
    assert {text.count("server.") for text in settings} == {3}
    assert not [text for text in settings if "forceSync" in text]  # its default is to flush
    assert [(tmp_path / f"m{number}" / "myid").read_text() for number in range(3)] == ["0\n", "1\n", "2\n"]


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("peer", [ETCD, ZOOKEEPER, PYSYNCOBJ], ids=lambda peer: peer.name)
async def test_a_peer_that_is_installed_is_measured(peer: Peer, tmp_path: Path) -> None:
    if (why := peer.missing()) is not None:
        pytest.skip(why)
    options = Options(directory=tmp_path, rounds=1, seconds=0.05, tiny=True, only=f"{peer.name}: put, 2")

    report = await run(peers.BENCHMARK, options, lambda _: None)

    assert [result["per_second"] > 0 for result in report["results"]] == [True]
