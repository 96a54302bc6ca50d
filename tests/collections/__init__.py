"""Tests of replicated collections."""
