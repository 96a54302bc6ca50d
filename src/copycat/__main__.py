"""`python -m copycat` is the `copycat` command."""

import sys

from copycat.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
