"""Raft: consensus, sessions and state machines, usable without the resource layer."""
