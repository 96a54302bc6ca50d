"""Tests of real server processes that die, stop and come back."""
