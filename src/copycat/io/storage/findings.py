"""What looking at a data directory found, and what each damage means for the member and for a person.

Source: protocol §1.2, §1.7, §1.8.
"""

from dataclasses import dataclass, field

from copycat.io.storage.base import ORIGIN, LogBase
from copycat.io.storage.metadata import Metadata
from copycat.io.storage.snapshot_file import SnapshotFile


@dataclass(slots=True, kw_only=True)
class Damage:
    """Bytes that do not verify. `offset` is None where the whole file is meant."""

    path: str
    offset: int | None
    what: str
    advice: str


@dataclass(slots=True, kw_only=True)
class SegmentReport:
    """One segment. `state`: "in force", "written" (the one appended to), "hidden" by newer ones, or "damaged".

    `last_index` is that of the last sound record, first index - 1 for none; `end` where the sound records end in the
    file, and `chain` and `term` belong to the last of them.
    """

    path: str
    generation: int
    first_index: int
    last_index: int
    records: int
    size: int
    end: int
    term: int
    chain: int
    faulty_from: int
    state: str


@dataclass(slots=True, kw_only=True)
class SnapshotReport:
    """One snapshot. `chunks` counts those read to its end; `is_sound`: all of it verifies."""

    path: str
    index: int
    term: int
    time: int
    size: int
    chunks: int
    is_sound: bool
    cluster_id: bytes
    configuration: bytes
    file: SnapshotFile | None


@dataclass(slots=True, kw_only=True)
class Inspection:
    """A data directory as it was found, or one file.

    metadata: the newest sound copy. first_index, last_index: of the sound log that goes on from the newest sound
    snapshot, last_index = first_index - 1 for none. faulty_from: the first index that was durable and is lost;
    lost_to: the highest that is known to have been, at least. notes: what is no damage, and worth knowing.
    """

    where: str
    in_use_by: str | None = None
    metadata: Metadata | None = None
    segments: list[SegmentReport] = field(default_factory=list)
    snapshots: list[SnapshotReport] = field(default_factory=list)
    first_index: int = 1
    last_index: int = 0
    base: LogBase = ORIGIN
    faulty_from: int | None = None
    lost_to: int | None = None
    damages: list[Damage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    leftovers: dict[str, str] = field(default_factory=dict)

    @property
    def newest(self) -> SnapshotFile | None:
        """The newest sound snapshot."""
        return max(
            (each.file for each in self.snapshots if each.is_sound and each.file is not None),
            key=lambda file: file.header.index,
            default=None,
        )

    @property
    def is_single(self) -> bool:
        """Whether no other member has a copy."""
        return self.metadata is not None and len(self.metadata.incarnations) == 1


def advise(base: LogBase, problems: dict[str, str], why: str, found: Inspection) -> None:
    for damage in found.damages:
        if not damage.advice:
            damage.advice = _advice_for_snapshot(found)
    for report in found.segments:
        if report.path not in problems:
            continue
        if found.faulty_from is None:
            advice = f"nothing to do: the snapshot at index {base.index} holds what it held; a start sets it aside"
        else:
            advice = _advice_for_fault(found)
        found.damages.append(Damage(path=report.path, offset=report.end, what=problems[report.path], advice=advice))
    if found.faulty_from is not None and not any(report.path in problems for report in found.segments):
        found.damages.append(
            Damage(
                path=found.where,
                offset=None,
                what=f"the log is faulty from index {found.faulty_from} on: {why}",
                advice=_advice_for_fault(found),
            )
        )


def _advice_for_snapshot(found: Inspection) -> str:
    newest = found.newest
    if newest is not None:
        return f"nothing to do: the snapshot at index {newest.header.index} serves; a start sets this one aside"
    if any(report.first_index == 1 and report.state != "hidden" for report in found.segments):
        return "nothing to do while the log is sound: it reaches back to index 1 and serves alone"
    return (
        "no snapshot is sound, and the log does not reach back to index 1: start the member, and its leader gives it "
        "one; it does not vote before. A single member needs a backup (`copycat restore`)"
    )


def _advice_for_fault(found: Inspection) -> str:
    lost = f"index {found.faulty_from} and what follows, to {found.lost_to} at least, was durable and is lost here"
    if found.is_single:
        return (
            f"{lost}, and there is no other copy: restore a backup (`copycat restore`), or bring what comes before "
            "into one with `copycat repair`"
        )
    return f"{lost}: start the member, and its leader refills it; it does not vote before"
