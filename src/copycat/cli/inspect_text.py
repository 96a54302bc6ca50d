"""What `copycat inspect` prints: the same facts as JSON has them, and as people read them."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from struct import error as StructError  # noqa: N812  # a class
from typing import Any

from copycat.cli.text import table
from copycat.errors import ProtocolError
from copycat.io.storage.findings import Inspection
from copycat.io.storage.record import Block
from copycat.raft.protocol.configuration import Configuration
from copycat.raft.protocol.entries import KEEP_ALIVE, REGISTER, BlockKind, Item, ItemKind, iterate_items, unpack_types


def as_dict(found: Inspection, configuration: Configuration | None, configuration_index: int) -> dict[str, Any]:
    """All that was found."""
    metadata = found.metadata
    return {
        "path": found.where,
        "in_use_by": found.in_use_by,
        "metadata": None
        if metadata is None
        else {
            "term": metadata.term,
            "vote": metadata.vote or None,
            "member_id": metadata.member_id,
            "incarnation": metadata.incarnation.hex(),
            "cluster_id": metadata.cluster_id.hex() or None,
            "members": list(metadata.members),
            "saves": metadata.sequence,
        },
        "configuration": None
        if configuration is None
        else {
            "index": configuration_index,
            "cluster_id": configuration.cluster_id.hex() or None,
            "members": list(configuration.members),
        },
        "first_index": found.first_index,
        "last_index": found.last_index,
        "faulty_from": found.faulty_from,
        "segments": [asdict(report) for report in found.segments],
        "snapshots": [
            {
                "path": report.path,
                "index": report.index,
                "term": report.term,
                "time": report.time,
                "size": report.size,
                "chunks": report.chunks,
                "is_sound": report.is_sound,
                "cluster_id": report.cluster_id.hex() or None,
            }
            for report in found.snapshots
        ],
        "leftovers": found.leftovers,
        "notes": found.notes,
        "damages": [asdict(damage) for damage in found.damages],
    }


def describe(seen: Mapping[str, Any]) -> str:
    """The same for a person."""
    parts = [seen["path"]]
    metadata, configuration = seen["metadata"], seen["configuration"]
    if metadata is not None:
        cluster = metadata["cluster_id"]
        parts.append(
            f"member {metadata['member_id']}, {'cluster ' + cluster[:8] if cluster else 'in no cluster yet'}, term "
            f"{metadata['term']}, vote {metadata['vote'] or 'for nobody'}, incarnation {metadata['incarnation'][:8]}"
        )
    if configuration is not None:
        parts.append(f"members since index {configuration['index']}: {', '.join(configuration['members'])}")
    if seen["segments"]:
        parts.append(_log_line(seen))
        head = ["segment", "generation", "first", "last", "records", "size", "chain", "state"]
        rows = [
            [
                _name(report["path"]),
                str(report["generation"]),
                str(report["first_index"]),
                str(report["last_index"]),
                str(report["records"]),
                str(report["size"]),
                f"{report['chain']:08x}",
                report["state"] + (f", faulty from {report['faulty_from']}" if report["faulty_from"] else ""),
            ]
            for report in seen["segments"]
        ]
        parts.append("\n" + table(head, rows))
    if seen["snapshots"]:
        head = ["snapshot", "index", "term", "size", "chunks", "state"]
        rows = [
            [
                _name(each["path"]),
                *(str(each[fact]) for fact in ("index", "term", "size", "chunks")),
                "sound" if each["is_sound"] else "damaged",
            ]
            for each in seen["snapshots"]
        ]
        parts.append("\n" + table(head, rows))
    parts += [f"\n{path}: {what}" for path, what in seen["leftovers"].items()]
    parts += [f"\nnote: {note}" for note in seen["notes"]]
    for damage in seen["damages"]:
        place = f" at byte {damage['offset']}" if damage["offset"] is not None else ""
        parts.append(f"\nDAMAGE {damage['path']}{place}: {damage['what']}\n  {damage['advice']}")
    if not seen["damages"]:
        parts.append("\nall checksums are right")
    return "\n".join(parts)


def _log_line(seen: Mapping[str, Any]) -> str:
    if seen["last_index"] < seen["first_index"]:
        return f"log: empty behind index {seen['last_index']}"
    return f"log: {seen['first_index']} to {seen['last_index']}"


def _name(path: str) -> str:
    return path.rpartition("/")[2]


# -- records -----------------------------------------------------------------------------------------------------------


def block_as_dict(block: Block) -> dict[str, Any]:
    """One record."""
    return {
        "first_index": block.first_index,
        "last_index": block.last_index,
        "term": block.term,
        "time": block.time,
        "wall_time": datetime.fromtimestamp(block.wall_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        "kind": next((kind.name for kind in BlockKind if kind == block.kind), str(block.kind)),
        "size": block.size,
        "items": _items(block),
    }


def _items(block: Block) -> list[str]:
    if block.kind != BlockKind.ITEMS:
        return []
    try:
        return [_item(item) for item in iterate_items(block.body)]
    except (ProtocolError, StructError) as error:
        return [f"items that cannot be read: {error}"]


def _item(item: Item) -> str:
    """One item in words."""
    kind, session, sequence, ack, count, blob = item
    if kind == ItemKind.COMMANDS:
        return f"{count} commands of session {session}, {sequence} to {sequence + count - 1}, {len(blob)} bytes"
    if kind == ItemKind.REGISTER:
        return f"a session registers, timeout {REGISTER.unpack(blob)[2]} ms"
    if kind == ItemKind.KEEP_ALIVE:
        return f"keep-alives of sessions {', '.join(str(kept[0]) for kept in KEEP_ALIVE.iter_unpack(blob))}"
    if kind == ItemKind.UNREGISTER:
        return f"session {session} unregisters"
    if kind == ItemKind.EXPIRE:
        return f"session {session} expires, unless it was active after {ack}"
    if kind == ItemKind.TICK:
        return "time passes"
    if kind == ItemKind.TYPES:
        return f"types: {', '.join(f'{name} {version}' for name, version in unpack_types(blob))}"
    if kind == ItemKind.CHECK:
        return "members compare their states"
    return f"an item of kind {kind}, which this release does not know"


def describe_block(seen: Mapping[str, Any]) -> str:
    """The same for a person, a line and one for each item."""
    first, last = seen["first_index"], seen["last_index"]
    span = str(first) if first == last else f"{first} to {last}"
    head = f"{span}: {seen['kind']}, term {seen['term']}, log time {seen['time']} ms, {seen['wall_time']}, "
    return "\n".join([f"{head}{seen['size']} bytes", *(f"  {item}" for item in seen["items"])])


# -- states ------------------------------------------------------------------------------------------------------------


def describe_state(seen: Mapping[str, Any]) -> str:
    """The state at an index, or of one resource, for a person."""
    head = f"at index {seen['index']}, log time {seen['log_time_ms']} ms"
    if "state" in seen:
        return f"{head}:\n{json.dumps(seen['state'], indent=2, ensure_ascii=False)}"
    rows = [
        [repr(each["path"]), each["type"], str(each["version"]), str(each["id"]), str(each["size_bytes"])]
        for each in seen["resources"]
    ]
    resources = table(["resource", "type", "version", "id", "bytes"], rows) if rows else "no resources"
    return f"{head}, {len(seen['sessions'])} sessions:\n{resources}"
