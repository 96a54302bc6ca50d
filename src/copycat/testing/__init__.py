"""Fakes that behave worse than the real thing, for tests of Copycat and of programs built on it."""
