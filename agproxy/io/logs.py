"""Where log lines go: standard error, one line each, time in UTC."""

import logging
import sys
import time

LEVELS = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}


def set_up(level: str) -> None:
    """Log to standard error from this level on; takes the place of an earlier set-up."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger("agproxy")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(LEVELS[level])
