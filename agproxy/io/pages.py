"""The files of the monitor page, as they stand in the package, be it a folder or an archive."""

import pkgutil

_TYPES = {
    "monitor.html": "text/html; charset=utf-8",
    "monitor.css": "text/css; charset=utf-8",
    "monitor.js": "text/javascript; charset=utf-8",
    "playground.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def read_page(name: str) -> tuple[str, bytes] | None:
    """Media type and content of a file; None where there is no such file."""
    media_type = _TYPES.get(name)
    data = None if media_type is None else pkgutil.get_data("agproxy", f"ui/{name}")
    return None if media_type is None or data is None else (media_type, data)
