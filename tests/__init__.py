"""Tests of Copycat; the folders mirror src/copycat."""
