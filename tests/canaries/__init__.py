"""Deliberate defects of the product, and whether the simulator finds each."""
