"""Tests of copycat.io."""
