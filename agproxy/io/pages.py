"""The files of the monitor page, as they stand in the package, be it a folder or an archive."""

import pkgutil
import re

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
# By whatever name agproxy goes here: it may stand in another package.
_PACKAGE = __name__.rpartition(".io.")[0]
_NAME = re.compile(r"[a-z]+\.(html|css|js|svg)")


def read_page(name: str) -> tuple[str, bytes] | None:
    """Media type and content of a file; None where there is no such file."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        data = pkgutil.get_data(_PACKAGE, f"ui/{name}")
    except OSError:
        return None
    return None if data is None else (_TYPES[match[1]], data)
