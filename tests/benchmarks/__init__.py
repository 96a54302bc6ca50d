"""Tests of the programs that measure: that they run, and that their numbers, tables and pictures are right."""
