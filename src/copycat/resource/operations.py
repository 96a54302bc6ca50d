"""What target 0 understands: the catalog of resources, which maps paths to them.

Every other target is a resource: its id is the log index of the command that created it, so ids grow and are never
reused. Operation ids are never reused either.
"""

from typing import Any, Final

from copycat.errors import ConfigurationError, ResourceTypeError, SerializationError, TooLargeError

CATALOG: Final = 0

CREATE: Final = 1  # path, type name, type version, encoding version -> the entry, made now or found
DELETE: Final = 2  # path, resource id or 0 for whichever is there -> whether one was deleted

GET: Final = 16  # path -> the entry: [resource id, type name, type version, encoding version]; None without one
EXISTS: Final = 17  # path -> bool
PATHS: Final = 18  # prefix, type name or None, after, limit -> that many paths, in order, behind `after`

PATH_BYTES_MAX: Final = 512
PAGE_MAX: Final = 1000  # paths in one answer, which keeps it well within a frame

Entry = list[Any]  # as GET answers it; a list because it travels as one


def check_path(path: object) -> str:
    """The path, if it can be one: text, not empty, at most 512 bytes of UTF-8.

    Raises SerializationError for what is not text, ConfigurationError when empty, TooLargeError when too long.
    """
    if not isinstance(path, str):
        raise SerializationError(f"a path is a str, not {type(path).__name__}: {path!r}")
    if not path:
        raise ConfigurationError("a path must not be empty")
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        raise SerializationError(f"path {path!r} has a lone surrogate, which UTF-8 cannot express") from None
    if size > PATH_BYTES_MAX:
        raise TooLargeError(
            f"path {path[:40]!r}... has {size} bytes; the limit is {PATH_BYTES_MAX}",
            size_bytes=size,
            limit_bytes=PATH_BYTES_MAX,
        )
    return path


def check_type(entry: Entry, path: str, type_name: str, type_version: int) -> None:
    """Raise ResourceTypeError unless the entry at `path` is of this type."""
    if entry[1:3] != [type_name, type_version]:
        raise ResourceTypeError(
            f"path {path!r} holds a {entry[1]!r} of version {entry[2]}, not a {type_name!r} of version {type_version}"
        )
