"""Applying committed entries: sessions, results, timers. Pure, like the core."""
