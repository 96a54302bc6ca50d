"""A server: the driver around the pure core, its links, its clients and its disk."""
