"""The builder face of every main class: `X.builder(*arguments).set(option=value).build()`."""

import inspect
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from copycat.errors import ConfigurationError

T = TypeVar("T")


class Builder(Generic[T]):
    """Collects options for one callable and calls it. Options are the callable's own keyword arguments."""

    def __init__(self, factory: Callable[..., T], *arguments: Any) -> None:
        self._factory = factory
        self._arguments = arguments
        self._options: dict[str, Any] = {}

    def set(self, **options: Any) -> "Builder[T]":
        """Set options by name; a later value replaces an earlier one. Returns the builder.

        Raises: ConfigurationError for a name the class does not take, listing those it takes.
        """
        parameters = inspect.signature(self._factory).parameters
        takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
        named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        known = [name for name, each in parameters.items() if each.kind in named]
        unknown = [] if takes_any else [name for name in options if name not in known]
        if unknown:
            owner = getattr(self._factory, "__qualname__", repr(self._factory))
            raise ConfigurationError(f"{owner} has no option {', '.join(unknown)}; it takes {', '.join(known)}")
        self._options.update(options)
        return self

    def build(self) -> T:
        """Make one instance; may be called again for another one with the same options.

        Raises: ConfigurationError if a required argument is missing or given twice; whatever the class raises itself.
        """
        try:
            inspect.signature(self._factory).bind(*self._arguments, **self._options)
        except TypeError as error:
            owner = getattr(self._factory, "__qualname__", repr(self._factory))
            raise ConfigurationError(f"cannot build {owner}: {error}") from error
        return self._factory(*self._arguments, **self._options)


class Buildable:
    """Gives a class its `builder()`."""

    @classmethod
    def builder(cls: type[T], *arguments: Any) -> Builder[T]:
        """A builder that will call this class with `arguments` and the options set."""
        return Builder(cls, *arguments)
