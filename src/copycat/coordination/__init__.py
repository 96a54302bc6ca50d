"""Locks, elections and topics."""
