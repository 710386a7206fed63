"""`agproxy config --egress`: every host that the gateway would connect to with these settings and accounts, and why.

It is the list that the running gateway holds itself to. What is not on it is told beside it: files that a request names
by URL, the programs that print tokens, and the resolver of host names.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from ..account import Account
from ..accounts import usable
from ..config import Config
from ..credentials import Command
from ..io.egress import Place
from . import term
from .accounts import gather
from .colour import BOLD

_FETCH = {
    "fetch": "any public host that the URL of an image or a file in a request names",
    "pass": "no host: the URLs of images and files are passed on, and upstream fetches them",
    "refuse": "no host: a URL of an image or a file is a 400",
}


def show(settings: Config, home: Path, *, as_json: bool) -> int:
    """Print the list; the exit status."""
    entries, is_whole = gather(home, os.environ)
    accounts = usable(entries)
    found = _places(settings, accounts, settings.simulates(entries if is_whole else None))
    programs = {account.id: _program(account) for account in accounts if isinstance(account.credential, Command)}
    if as_json:
        print(json.dumps(_as_json(settings, found, programs), indent=2, ensure_ascii=False))
        return 0
    rows = [[(place.name, BOLD), (place.through or "-", ""), (term.plain("; ".join(place.why)), "")] for place in found]
    print(term.table(("HOST", "THROUGH", "WHY"), rows, sys.stdout))
    print(f"\nfetch_media   {_fetch(settings)}")
    if settings.fetch_media == "fetch" and settings.fetch_private_hosts:
        print(f"              and of your own network: {', '.join(settings.fetch_private_hosts)}")
    for id, program in programs.items():
        print(f"runs          {term.plain(program)} for the tokens of account {id}; it connects to what it wants")
    print("names         host names are looked up by the system's resolver")
    return 0


def _places(settings: Config, accounts: tuple[Account, ...], is_simulated: bool) -> tuple[Place, ...]:
    if is_simulated:
        return (Place(host="127.0.0.1", port=0, why=("the simulated Gemini, on a free port",)),)
    from ..egress import places  # here, since of all settings only this needs the gateway's parts

    return places(settings, accounts, os.environ)


def _program(account: Account) -> str:
    """The name of a command; its arguments may be secret."""
    assert isinstance(account.credential, Command)
    return os.path.basename(account.credential.argv[0])


def _fetch(settings: Config) -> str:
    if settings.fetch_media == "fetch" and settings.fetch_through_proxy:
        return _FETCH["fetch"] + "; through the proxy where one is in force"
    return _FETCH[settings.fetch_media]


def _as_json(settings: Config, found: tuple[Place, ...], programs: dict[str, str]) -> dict[str, Any]:
    return {
        "hosts": [
            {"host": place.host, "port": place.port or None, "through": place.through or None, "why": list(place.why)}
            for place in found
        ],
        "fetch_media": {
            "mode": settings.fetch_media,
            "meaning": _fetch(settings),
            "private_hosts": list(settings.fetch_private_hosts) if settings.fetch_media == "fetch" else [],
        },
        "runs": [{"account": id, "program": program} for id, program in programs.items()],
    }
