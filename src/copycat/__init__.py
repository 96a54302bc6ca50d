"""Copycat: your Python processes agree. Locks, leaders, maps and your own state machines, replicated by Raft."""

__version__ = "0.1.0"
