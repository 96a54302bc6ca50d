"""Tests of copycat.io.transport."""
