"""The `copycat` command."""
