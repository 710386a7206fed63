"""The folder of the user's settings and state: where it is, and what config.json in it says."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import jsontext
from ..errors import ConfigError


def default_home(environ: Mapping[str, str]) -> Path:
    """The folder by the platform's custom: XDG on Linux and other Unixes, Application Support, AppData."""
    if sys.platform == "win32":
        return Path(environ.get("APPDATA") or Path.home() / "AppData" / "Roaming") / "agproxy"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "agproxy"
    xdg = environ.get("XDG_CONFIG_HOME", "")
    return (Path(xdg) if os.path.isabs(xdg) else Path.home() / ".config") / "agproxy"


def read_config(home: Path) -> dict[str, Any]:
    """The object in config.json; {} where there is no such file. Raises ConfigError naming file and line."""
    file = home / "config.json"
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}") from None
    try:
        value = jsontext.loads(data)
    except ValueError as error:
        raise ConfigError(f"{file}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{file}: a JSON object was expected")
    return value
