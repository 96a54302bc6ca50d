"""Mistakes on the way to the disk and back: `copycat.io.storage`."""

from tests.canaries.canary import Canary

STORAGE = (
    Canary(
        name="Term and vote are written and not synced",
        module="copycat.io.storage.metadata",
        before="""
            file.write_at(0, record)
            file.sync()
        """,
        after="file.write_at(0, record)",
        danger="after a power cut the member votes again in the same term, for another: two leaders",
        judges=("1", "2", "metadata is older than the log", "no copy of the metadata is sound"),
    ),
    Canary(
        name="The name of a new segment is not synced",
        module="copycat.io.storage.segment",
        before="""
            self._disk.rename(temporary, self.path)
            self._disk.sync_directory(self._directory)
        """,
        after="self._disk.rename(temporary, self.path)",
        danger="a power cut takes a whole file of entries that were vouched for",
        judges=("4", "5", "7", "25", "26", "metadata is older than the log", "a member vouches for"),
    ),
    Canary(
        name="A sync that fails is taken for one that did not",
        module="copycat.io.storage.writing",
        before="""
            if self.active is not None:
                self.active.sync()
            self.failed = False
        """,
        after="""
            if self.active is not None:
                try:
                    self.active.sync()
                except OSError:
                    pass
            self.failed = False
        """,
        danger="the system has dropped the pages: what was vouched for was never written",
        judges=("a file was written again after its sync failed", "a file was synced again after its sync failed"),
    ),
    Canary(
        name="The log is written and not synced",
        module="copycat.io.storage.writing",
        before="""
            if self.active is not None:
                self.active.sync()
            self.failed = False
        """,
        after="self.failed = False",
        danger="a power cut takes acknowledged writes from a majority",
        judges=("4", "5", "7", "34", "25", "26", "metadata is older than the log", "a member vouches for"),
    ),
)
