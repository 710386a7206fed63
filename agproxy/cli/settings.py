"""`agproxy config`: the value of each setting and where it came from, secrets masked.

It takes every flag of `serve`, so that one can see what a command line would mean before running it.
"""

import argparse
import json
import os
from typing import TYPE_CHECKING, Any

from .. import config
from ..config import BY_NAME, SETTINGS, Loaded, Setting
from ..errors import ConfigError
from ..masking import hide_secrets
from .colour import BOLD, DIM, paint
from .common import add_settings, groups, home_of, load_aloud, nearest

if TYPE_CHECKING:
    from .common import Commands

_DESCRIPTION = """\
The value of each setting and where it came from: a flag, a variable of the environment, config.json, or the default.
Keys and passwords are never shown. With the flags of `agproxy serve`, it tells what that command line would mean."""


def add(commands: "Commands") -> None:
    parser = commands.add_parser(
        "config",
        help="the value of each setting, and where it came from",
        usage="agproxy config [NAME ... | --egress] [--json] [--home DIR] [--SETTING VALUE ...]",
        description=_DESCRIPTION,
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="tell all about this setting (port, AGPROXY_PORT ...)")
    parser.add_argument("--egress", action="store_true", help="every host that the gateway would connect to, and why")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    add_settings(parser, is_shown=False)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    loaded = load_aloud(options, os.environ)
    if options.egress:
        if options.names:
            raise ConfigError("--egress: the list is of all settings and accounts, name none")
        from . import egress  # here, since it needs the parts that connect

        return egress.show(loaded.config, home_of(options, os.environ), as_json=options.json)
    chosen = [_find(name) for name in options.names]
    if options.json:
        print(json.dumps({s.name: _as_json(s, loaded) for s in chosen or SETTINGS}, indent=2, ensure_ascii=False))
    elif chosen:
        print("\n\n".join(_details(setting, loaded) for setting in chosen))
    else:
        file = home_of(options, os.environ) / "config.json"
        print(_table(loaded))
        print(f"\nsettings file: {file}{'' if file.exists() else ' (there is none)'}")
    return 0


def _find(name: str) -> Setting:
    """The setting of a name, in any of the ways in which it is written."""
    for setting in SETTINGS:
        if name.lower().replace("-", "_") == setting.name or name in (setting.variable, setting.key):
            return setting
    raise ConfigError(f"no setting is called {hide_secrets(name)!r}{nearest(name.lower().replace('-', '_'), BY_NAME)}")


def _value(setting: Setting, loaded: Loaded) -> str:
    return config.show(setting, getattr(loaded.config, setting.name)) or "(empty)"


def _table(loaded: Loaded) -> str:
    """All settings under their headings; where one is not the default, its source stands out."""
    names = max(len(setting.name) for setting in SETTINGS)
    values = max(min(len(_value(setting, loaded)), 44) for setting in SETTINGS)
    lines = []
    for heading, settings in groups().items():
        lines.append(paint(heading, BOLD))
        for setting in settings:
            source = loaded.sources[setting.name]
            told = paint(source, DIM) if source == "default" else source
            shown = _value(setting, loaded)
            unit = f"{shown} {setting.unit}" if setting.unit else shown
            lines.append(f"  {setting.name:<{names}}  {unit:<{values}}  {told}")
    return "\n".join(lines)


def _details(setting: Setting, loaded: Loaded) -> str:
    rows = {
        "from": loaded.sources[setting.name],
        "default": config.show(setting, setting.default) or "(empty)",
        "meaning": setting.help,
        "choices": ", ".join(setting.choices),
        "range": _range(setting),
        "set by": f"{'' if setting.secret else setting.flag + ', '}{setting.variable}, {setting.key} in config.json",
    }
    unit = f" {setting.unit}" if setting.unit else ""
    head = paint(f"{setting.name} = {_value(setting, loaded)}{unit}", BOLD)
    return "\n".join([head, *(f"  {title:<9}{text}" for title, text in rows.items() if text)])


def _range(setting: Setting) -> str:
    ends = [f"at least {setting.least:g}" if setting.least is not None else ""]
    ends.append(f"at most {setting.most:g}" if setting.most is not None else "")
    return ", ".join(filter(None, ends))


def _as_json(setting: Setting, loaded: Loaded) -> dict[str, Any]:
    return {
        "value": _plain(setting, getattr(loaded.config, setting.name)),
        "source": loaded.sources[setting.name],
        "default": _plain(setting, setting.default),
        "flag": None if setting.secret else setting.flag,
        "variable": setting.variable,
        "key": setting.key,
        "unit": setting.unit or None,
        "help": setting.help,
    }


def _plain(setting: Setting, value: Any) -> Any:
    """The value as config.json would hold it; a secret only as far as `show` tells it."""
    if setting.secret:
        return config.show(setting, value)
    if setting.kind == "map":
        return dict(value)
    return list(value) if setting.kind == "list" else value
