"""Replicated collections."""
