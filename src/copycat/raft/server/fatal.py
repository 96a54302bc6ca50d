"""What happens when a member cannot go on."""

import logging
import os
import sys

_log = logging.getLogger(__name__)

EXIT_STATUS = 70  # EX_SOFTWARE


def end_process(error: BaseException) -> None:
    """End the process at once if its disk failed; anything else has halted the member, and the process may live.

    After a failed sync the page cache may hold what the disk will never get, so neither may another attempt be made
    nor the data be read again by this process (protocol §1.5).
    """
    if isinstance(error, OSError):
        _log.critical("the disk failed, so this process ends now: %s", error)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(EXIT_STATUS)
