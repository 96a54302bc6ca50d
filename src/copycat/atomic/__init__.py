"""Replicated values."""
