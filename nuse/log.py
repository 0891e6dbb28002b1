"""Where messages go: stderr as `nuse: …`, or the stack's own log file once it is detached."""

import logging
import sys
from pathlib import Path

FORMAT = "nuse: %(message)s"
FILE_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def setup(level: str = "info", path: Path | None = None) -> None:
    """Send the package's messages of at least `level` to a file, or to stderr."""
    handler: logging.Handler = logging.StreamHandler(sys.stderr) if path is None else logging.FileHandler(path)
    handler.setFormatter(logging.Formatter(FORMAT if path is None else FILE_FORMAT))
    root = logging.getLogger("nuse")
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level.upper())
    root.propagate = False
