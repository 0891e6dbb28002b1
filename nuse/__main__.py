"""`python -m nuse`, and the `nuse` command."""

import sys

from nuse.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
