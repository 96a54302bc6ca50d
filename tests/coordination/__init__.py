"""Tests of locks, elections and topics."""
