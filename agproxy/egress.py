"""The hosts that a configuration names: what `io.egress` lets through and `agproxy config --egress` prints."""

import contextlib
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from .account import Account
from .config import Config
from .credentials import Metadata, OAuthUser, ServiceAccount, metadata_place
from .errors import ConfigError
from .io.egress import Place
from .io.proxy import PORTS, ProxyRules
from .targets import target_of

Named = tuple[str, str, str]
"""A URL, what names it, and the URL of the proxy that is used for this one alone ("" for the usual way)."""


def places(
    config: Config, accounts: Iterable[Account], environ: Mapping[str, str], upstream: str = ""
) -> tuple[Place, ...]:
    """Where a gateway with these accounts connects to. upstream: the base URL of the Gemini API, where that is not the
    setting's: the embedded simulator's."""
    url = upstream or config.upstream_url
    named: list[Named] = [(url, "the simulated Gemini" if upstream else "upstream_url", "")]
    servers: list[Place] = []
    for account in accounts:
        name = f"account {account.id}{f' ({account.label})' if account.label else ''}"
        named.append((target_of(account, "", url).base_url, name, account.proxy))
        match account.credential:
            case OAuthUser(token_url=token_url) | ServiceAccount(token_url=token_url):
                named.append((token_url, f"{name}: its tokens", account.proxy))
            case Metadata() as metadata:
                with contextlib.suppress(ValueError):  # no port: who asks for the token says so
                    host, port = metadata_place(metadata, environ)
                    servers.append(Place(host=host, port=port, why=(f"{name}: its tokens",)))
    return _joined([*places_of(named, config, environ), *servers])


def places_of(named: Iterable[Named], config: Config, environ: Mapping[str, str]) -> tuple[Place, ...]:
    """The hosts of URLs, and the proxies by which they are reached. What is no URL is left out: no call can go there,
    and the one that tries says so."""
    found: list[Place] = []
    for url, why, own_proxy in named:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
            proxy = ProxyRules(own_proxy or config.upstream_proxy, environ).choose(parts.scheme, host, port)
        except (ValueError, KeyError, ConfigError):
            continue
        found.append(Place(host=host, port=port, why=(why,), through=proxy.place if proxy is not None else ""))
        if proxy is not None:
            found.append(Place(host=proxy.host, port=proxy.port, why=(f"proxy of {why}",)))
    return _joined(found)


def _joined(found: Iterable[Place]) -> tuple[Place, ...]:
    """Each place once for each way that leads to it, with all that name it."""
    whys: dict[tuple[str, int, str], dict[str, None]] = {}
    for place in found:
        whys.setdefault((place.host, place.port, place.through), {}).update(dict.fromkeys(place.why))
    return tuple(Place(host=h, port=p, why=tuple(why), through=t) for (h, p, t), why in whys.items())
