"""What the operating system says of this process. What a system does not tell is left out."""

import contextlib
import os
import sys
import time

_IMPORTED_AT = time.time()
_FOLDERS = ("/proc/self/fd", "/dev/fd")


def resident_bytes() -> int | None:
    """Memory in use now; only Linux tells."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/self/statm", "rb") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None


def open_files() -> int | None:
    """File descriptors that are open, less the one that counts them."""
    for folder in _FOLDERS:
        with contextlib.suppress(OSError):
            return len(os.listdir(folder)) - 1
    return None


def most_files() -> int | None:
    """File descriptors that may be open."""
    if sys.platform == "win32":
        return None
    import resource

    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def started_at() -> float:
    """Unix seconds of the process's begin; where the system does not tell, of this module's."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/self/stat", "rb") as stream:
            ticks = int(stream.read().rpartition(b")")[2].split()[19])  # after the name, which may hold spaces
            age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
            return time.time() - age
    return _IMPORTED_AT
