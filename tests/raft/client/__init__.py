"""Tests of the client: its session, its queries, its futures, and whom it talks to."""
