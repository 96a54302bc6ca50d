"""What happens to committed entries: sessions, exactly-once, log time, timers, and the user's machines. Pure."""
