"""The pure heart: events in, effects out. No clock, no randomness, no socket, no file."""
