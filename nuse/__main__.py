"""`python -m nuse`, and the `nuse` command."""

import sys


def main() -> int:
    """Run the command line. Ctrl-C during the imports is as quiet as later on."""
    try:
        from nuse.cli.main import main as command_line

        return command_line()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
