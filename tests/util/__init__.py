"""Tests of copycat.util."""
