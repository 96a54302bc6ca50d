"""Tests of raft."""
