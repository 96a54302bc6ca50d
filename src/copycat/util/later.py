"""Names that a package offers, and loads when they are first asked for.

A program that is a client should not wait for the code of servers.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def load_later(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of `package`. `places` has the module of each of its names that are loaded later."""

    def load(name: str) -> Any:
        place = places.get(name)
        if place is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(place), name)
        setattr(sys.modules[package], name, value)  # from now on it is found without this
        return value

    return load
