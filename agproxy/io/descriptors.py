"""How many files and sockets the process may have open. Each client takes one, and each answer under way another."""

import sys

if sys.platform != "win32":
    import resource

# Beside connections: the listener, logs, the state's files, Python's own.
SPARE = 64

if sys.platform == "win32":

    def raise_limit() -> int | None:
        """Windows has no such limit."""
        return None

else:

    def raise_limit() -> int | None:
        """Raise the soft limit to the hard one; the limit in force then, None where there is none."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard and (hard == resource.RLIM_INFINITY or soft < hard):
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            except (ValueError, OSError):  # macOS has "no limit" there and still refuses it
                return soft
            soft = hard
        return None if soft == resource.RLIM_INFINITY else soft
