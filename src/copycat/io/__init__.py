"""Bytes: buffers, serializer, storage and transport."""
