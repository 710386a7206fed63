"""Every setting, declared once: from its field in `Config` come the flag, the AGPROXY_ variable, the key of
config.json, the check, `--help`, the table in README and `agproxy config`.

Precedence: flag > AGPROXY_ environment > config.json > default. Pure: the caller hands in arguments, environment
and the file's values. Keys with a dot are nested in config.json (`{"proxy": {"auth_mode": "strict"}}`); flags and
variables drop the `proxy.`.
"""

import difflib
import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field, fields
from typing import Any

from . import jsontext
from .errors import ConfigError
from .masking import hide_secrets

PREFIX = "AGPROXY_"
# Variables with our prefix that are not settings of Config: the folder is needed before config.json can be read, and
# a worker is told its place by its supervisor.
NOT_SETTINGS = frozenset({"AGPROXY_HOME", "AGPROXY_WORKER"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is declared of one setting. `least` and `most` bound numbers; `restart`: a running gateway keeps its old
    value, and says so, when config.json changes."""

    name: str
    key: str
    kind: str
    default: Any
    help: str
    unit: str = ""
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    secret: bool = False
    restart: bool = False

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()


def _setting(
    default: Any,
    help: str,
    *,
    kind: str | None = None,
    key: str | None = None,
    unit: str = "",
    choices: tuple[str, ...] = (),
    least: float | None = 0,
    most: float | None = None,
    secret: bool = False,
    restart: bool = False,
) -> Any:
    kind = kind or {bool: "bool", int: "int", float: "float", str: "str"}[type(default)]
    note: dict[str, Any] = {"kind": kind, "key": key, "help": help, "unit": unit, "choices": choices}
    note |= {"secret": secret, "restart": restart}
    if kind in ("int", "float"):
        note |= {"least": least, "most": most}
    return field(default=default, repr=not secret, metadata=note)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The effective settings of one process."""

    # Where it listens
    host: str = _setting(
        "localhost",
        "address to listen on; localhost is 127.0.0.1 and, where it exists, ::1. With LAN access: 0.0.0.0. "
        "Empty: on none, but on listen_unix",
        restart=True,
    )
    port: int = _setting(8045, "port to listen on; 0 takes a free one", most=65535, restart=True)
    listen_unix: str = _setting("", "path of a Unix socket to listen on, beside host and port", restart=True)
    unix_mode: str = _setting(
        "0600", "mode of that socket's file, octal: which users of this machine may connect", kind="mode", restart=True
    )
    tls_cert: str = _setting(
        "",
        "certificate with its chain, PEM: host and port speak TLS 1.2 or later then (https), the Unix socket does not. "
        "Renewed files are taken up",
        restart=True,
    )
    tls_key: str = _setting("", "key of tls_cert, PEM; empty: it stands in the same file", restart=True)

    workers: int = _setting(
        1,
        "processes that serve the address together, for `agproxy serve` on Linux and macOS: each uses one core; limits "
        "that are counted (connections, requests) hold for each",
        least=1,
        most=64,
        restart=True,
    )

    # Who may use it
    auth_mode: str = _setting(
        "auto",
        "which requests need a client key: none (off), all (strict), all but /healthz and /readyz "
        "(all_except_health); auto is all_except_health with LAN access or where keys.json holds any, else off",
        key="proxy.auth_mode",
        choices=("off", "strict", "all_except_health", "auto"),
    )
    api_key: tuple[tuple[str, str], ...] = _setting(
        (),
        "client keys: one, several by commas, or in config.json an object of name -> key",
        kind="keys",
        key="proxy.api_key",
        secret=True,
    )
    admin_key: str = _setting(
        "",
        "key for /metrics and all below /v1/agproxy/, which is then asked for there in place of a client key; empty: a "
        "client key, and where there is none, this machine only",
        kind="password",
        secret=True,
    )
    ui: bool = _setting(
        True,
        "serve the monitor page at /ui; what it shows is read from /v1/agproxy/, with the key that is asked for there",
    )
    allow_lan_access: bool = _setting(
        False,
        "serve other machines too: listens on 0.0.0.0 and asks for a client key",
        key="proxy.allow_lan_access",
        restart=True,
    )
    allowed_hosts: tuple[str, ...] = _setting(
        (),
        "names by which browsers may reach the server without a key, besides loopback names and IP addresses; "
        "several by commas, * matches anything",
        kind="list",
    )
    allowed_origins: tuple[str, ...] = _setting(
        (),
        "web pages that may use the server without a key, besides those of this machine: vscode-webview://*, app://*, "
        "null ...; several by commas",
        kind="list",
    )
    account_email: str = _setting(
        "loopback",
        "which clients are told the account's e-mail in X-Account-Email",
        choices=("loopback", "all", "none"),
    )

    # Where answers come from
    upstream_url: str = _setting(
        "https://generativelanguage.googleapis.com",
        "base URL of the Gemini API; the version is added. Plain http only to loopback unless allow_plain_http",
        restart=True,
    )
    upstream_version: str = _setting("v1beta", "version of the Gemini API in the path", restart=True)
    allow_plain_http: bool = _setting(
        False, "let upstream_url be plain http beyond loopback; keys travel unencrypted", restart=True
    )
    simulate: str = _setting(
        "off",
        "answer from the embedded simulated Gemini: never, when no account is configured (auto), or always",
        choices=("off", "auto", "on"),
        restart=True,
    )
    ca_file: str = _setting(
        "", "CA certificates to trust upstream, PEM; empty: SSL_CERT_FILE, else certifi's", restart=True
    )
    upstream_proxy: str = _setting(
        "",
        "proxy towards upstream: http://, https:// or socks5:// URL; empty: HTTPS_PROXY and NO_PROXY as usual",
        secret=True,
        restart=True,
    )

    # Models
    model_map: tuple[tuple[str, str], ...] = _setting(
        (),
        "client's model name -> Gemini model: a JSON object, or a=b,c*=d; * matches anything. a=b|c (or a list in the "
        "file): c serves when every account is out for b",
        kind="map",
    )
    default_model: str = _setting("", "model for names that no rule knows; empty: such a name is 404 model_not_found")

    # Attempts
    max_attempts: int = _setting(3, "upstream calls that one request may cost", least=1, most=100)
    max_wait_seconds: float = _setting(
        10.0,
        "how long one request may wait in all, for its place in max_in_flight and for accounts; longer, and the 503 or "
        "429 is passed on",
        unit="s",
    )

    scheduling: str = _setting(
        "balance",
        "which account serves next: who has done least (balance), who is quickest (performance), the one that served "
        "the session before (cache-first), the first in order (fill-first)",
        choices=("balance", "performance", "cache-first", "fill-first"),
    )
    max_in_flight: int = _setting(
        2000,
        "requests to the model under way at once, streams too; more stand in line, for max_wait_seconds at most, and "
        "then get 503. 0: no limit",
    )
    max_queued: int = _setting(
        1000,
        "requests that may stand in one line: for a place among max_in_flight, or for accounts that limits of your own "
        "keep busy; one more gets 503 at once",
    )

    # Translation
    thoughts: bool = _setting(True, "ask models that think for summaries of their thoughts")
    unsupported: str = _setting(
        "warn",
        "a request field that Gemini has no place for: named in X-AGProxy-Warnings (warn), or a 400 (refuse)",
        choices=("warn", "refuse"),
    )
    late_system: str = _setting(
        "keep",
        "a system message after the first turn: stays there as user text (keep), or joins the instruction (hoist)",
        choices=("keep", "hoist"),
    )
    schema_with_tools: str = _setting(
        "instruct",
        "functions and a JSON schema together, where the model refuses both: schema told in words, or a 400",
        choices=("instruct", "refuse"),
    )
    schemas: str = _setting(
        "native",
        "JSON schemas of functions and answers: sent as they are (native), or turned into Gemini's own Schema "
        "(convert), for an upstream_version or a model without the fields for JSON Schema",
        choices=("native", "convert"),
    )
    images: str = _setting(
        "markdown",
        "images in a Chat answer: a Markdown data URI in the content, or the field message.images",
        choices=("markdown", "field"),
    )
    responses_done: bool = _setting(
        False, "end Responses streams with data: [DONE], which OpenAI does not send, for clients that wait for it"
    )
    responses_include_choices: bool = _setting(
        False, "add Chat's `choices` to unary Responses answers, for clients that look for the text there"
    )
    keepalive_seconds: float = _setting(15.0, "silence after which a stream gets a keep-alive; 0: never", unit="s")

    # Images and files that a request names by an http(s) URL
    fetch_media: str = _setting(
        "fetch",
        "http(s) URLs of images and files: fetched by the gateway (fetch), passed on for upstream to fetch (pass), "
        "or a 400 (refuse)",
        choices=("fetch", "pass", "refuse"),
    )
    fetch_max_bytes: int = _setting(
        20 * 1024 * 1024,
        "one fetched file, after decompression; what Gemini long took in one request",
        unit="bytes",
        restart=True,
    )
    fetch_max_files: int = _setting(
        100,
        "files that one request may have fetched; a long conversation names its images again each turn",
        least=1,
        restart=True,
    )
    fetch_timeout_seconds: float = _setting(
        10.0, "one file in all, from the name's look-up to the last byte", unit="s", restart=True
    )
    fetch_max_concurrent: int = _setting(
        16, "files fetched at once, for all requests; more wait", least=1, restart=True
    )
    fetch_through_proxy: bool = _setting(
        False,
        "fetch files through the proxy too, where one is in force. It resolves names itself, so which addresses it "
        "reaches cannot be checked here",
        restart=True,
    )
    fetch_private_hosts: tuple[str, ...] = _setting(
        (),
        "hosts of your own network that files may be fetched from although their addresses are private: names or "
        "addresses, several by commas. Never loopback or link-local",
        kind="list",
        restart=True,
    )

    # What is kept between requests
    state: bool = _setting(
        True,
        "keep responses (with their input) and conversations, in state.sqlite3 of the home folder, for clients that go "
        "on from them by id; store: false in a request keeps nothing of it",
        restart=True,
    )
    state_max_age_days: float = _setting(
        30.0,
        "how long a chain of responses or a conversation is kept after its last use; OpenAI's own time",
        unit="d",
        restart=True,
    )
    state_max_bytes: int = _setting(
        1024**3,
        "what is kept in all; over it, what has rested longest goes first",
        unit="bytes",
        least=1024 * 1024,
        restart=True,
    )

    # The journal of requests
    journal: bool = _setting(
        True,
        "keep what is known of each request that has ended in journal.sqlite3 of the home folder, for `agproxy logs`: "
        "names, counts and times, and messages of errors and notices, which quote the wrong value or upstream's words",
        restart=True,
    )
    journal_max_age_days: float = _setting(7.0, "how long it is kept", unit="d", restart=True)
    journal_max_bytes: int = _setting(
        64 * 1024 * 1024,
        "what is kept in all; over it, the oldest goes first",
        unit="bytes",
        least=1024 * 1024,
        restart=True,
    )
    journal_bodies: str = _setting(
        "off",
        "keep the bodies too, of client and upstream, both ways: never (off), of requests that fail (errors), or of "
        "all. They hold prompts and answers; known secrets are removed, media shortened",
        choices=("off", "errors", "all"),
    )
    journal_body_max_bytes: int = _setting(
        256 * 1024, "of one kept body; the rest is cut off, with a mark", unit="bytes"
    )

    # Limits of the server. Each default is far above honest use and far below what hurts the machine.
    max_connections: int = _setting(
        4000, "client connections at once; one more gets 503. 1,000 streams and their spares fit", least=1
    )
    spare_connections: int = _setting(
        64, "connections beyond max_connections that are let in to be told so; one more is closed at once"
    )
    max_header_bytes: int = _setting(
        65536, "request line and headers (431); agents send long tokens and metadata", unit="bytes", least=1024
    )
    max_body_bytes: int = _setting(
        100 * 1024 * 1024, "request body, after decompression too (413); Gemini itself takes 100 MB", unit="bytes"
    )
    header_timeout_seconds: float = _setting(30.0, "from a request's first byte to its last header (408)", unit="s")
    body_timeout_seconds: float = _setting(
        60.0, "silence within a request body (408); a slow line still sends something each minute", unit="s"
    )
    idle_timeout_seconds: float = _setting(
        75.0, "how long an idle client connection is kept; longer than the 60 s that most peers keep one", unit="s"
    )
    write_timeout_seconds: float = _setting(
        75.0, "how long a client may take nothing of an answer that waits for it, before it is cut", unit="s"
    )
    linger_seconds: float = _setting(
        2.0,
        "how long the rest of a refused request is read, so that the answer arrives; at the stop, how long requests "
        "that may be on their way are waited for",
        unit="s",
    )
    write_buffer_bytes: int = _setting(
        65536, "unsent bytes of one answer above which upstream is paused until the client reads", unit="bytes"
    )
    drain_seconds: float = _setting(30.0, "how long open answers may go on after SIGTERM or Ctrl-C", unit="s")

    # Limits of the upstream client
    connect_timeout_seconds: float = _setting(10.0, "TCP, proxy and TLS to upstream, waiting for a place too", unit="s")
    first_byte_timeout_seconds: float = _setting(
        900.0, "from a call to the first byte of its answer; long thinking is silent for many minutes", unit="s"
    )
    upstream_idle_timeout_seconds: float = _setting(300.0, "silence within an upstream answer", unit="s")
    total_timeout_seconds: float = _setting(
        3600.0, "one upstream answer in all; no further attempt begins after it", unit="s"
    )
    max_upstream_connections: int = _setting(2000, "connections to one upstream host at once", least=1, restart=True)
    upstream_keepalive_seconds: float = _setting(
        50.0, "how long an idle upstream connection is kept; below the 60 s after which many servers drop it", unit="s"
    )
    max_upstream_body_bytes: int = _setting(
        256 * 1024 * 1024, "an upstream answer that is read whole, after decompression", unit="bytes"
    )
    max_event_bytes: int = _setting(
        64 * 1024 * 1024, "one event of an upstream stream; images come as one event", unit="bytes"
    )
    read_buffer_bytes: int = _setting(
        262144, "bytes read ahead of what is being handled, each connection", unit="bytes", least=4096
    )

    # While it runs
    reload_seconds: float = _setting(
        1.0, "how often config.json, accounts.json and keys.json are looked at for changes; 0: only on SIGHUP", unit="s"
    )

    # Logs
    log_level: str = _setting("info", "least level that is logged", choices=("error", "warning", "info", "debug"))
    log_format: str = _setting(
        "text", "lines of the log: for people, or one JSON object each", choices=("text", "json")
    )

    def simulates(self, accounts: Sized | None) -> bool:
        """Whether answers are simulated, with these accounts, whether in use or not; None: they cannot be read.

        Accounts that are disabled or cannot be read are configured all the same: no made-up answers in their place.
        """
        return self.simulate == "on" or (self.simulate == "auto" and accounts is not None and not accounts)

    @property
    def effective_auth_mode(self) -> str:
        """What `auto` means here."""
        if self.auth_mode != "auto":
            return self.auth_mode
        return "all_except_health" if self.allow_lan_access else "off"


def _declare() -> tuple[Setting, ...]:
    return tuple(
        Setting(
            name=f.name,
            key=f.metadata["key"] or f.name,
            default=f.default,
            **{name: value for name, value in f.metadata.items() if name != "key"},
        )
        for f in fields(Config)
    )


SETTINGS = _declare()
BY_NAME = {setting.name: setting for setting in SETTINGS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Effective settings; `sources` says of each where it came from; `warnings` are for the log."""

    config: Config
    sources: Mapping[str, str]
    warnings: tuple[str, ...]


def check_served(config: Config, hosts: Sequence[str] | None = None, *, has_keys: bool = False) -> None:
    """Refuse settings that would leave the door open, or locked without a key to it. Raises ConfigError that says what
    to do. For a process that listens; other commands take any settings.

    hosts: the addresses of the sockets that it was handed; None: it listens where the settings say. has_keys: there are
    client keys in keys.json.
    """
    if hosts is None:
        hosts = (config.host,) if config.host else ()
        if not hosts and not config.listen_unix:
            raise ConfigError("host and listen_unix are both empty: there is nothing to listen on")
    if config.tls_key and not config.tls_cert:
        raise ConfigError("tls_key is set, and tls_cert is not: a key alone serves nobody")
    mode = config.effective_auth_mode
    if mode != "off" and not config.api_key and not has_keys:
        raise ConfigError(
            f"auth mode {mode} asks every client for a key, and there is none: set AGPROXY_API_KEY, "
            "or proxy.api_key in config.json, or make one with 'agproxy keys add NAME'"
        )
    if config.upstream_url.lower().startswith("http://") and not config.allow_plain_http:
        host = config.upstream_url[7:].partition("/")[0]
        host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        if not _is_loopback(host):
            raise ConfigError(
                f"upstream_url: plain http to {host[:100]} sends keys unencrypted: use https, or --allow-plain-http"
            )
    open_host = next((host for host in hosts if not _is_loopback(host)), None)
    if mode == "off" and open_host is not None:
        raise ConfigError(
            f"listening on {open_host} lets other machines in, and no client key is asked for: set AGPROXY_API_KEY "
            "and --allow-lan-access (or --auth-mode strict), or listen on localhost"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


# --- values ----------------------------------------------------------------------------------------------------

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})


def _parse_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _TRUE:
        return True
    if isinstance(value, str) and value.lower() in _FALSE:
        return False
    raise ValueError("on or off was expected")


def _parse_int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("a whole number was expected")
    try:
        return int(value)
    except ValueError:
        raise ValueError("a whole number was expected") from None


def _parse_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("a number was expected")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError("a number was expected") from None
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError("a finite number was expected")
    return number


def _parse_str(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("text was expected")
    return value


def _parse_mode(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch("0?[0-7]{3}", value):
        raise ValueError("an octal mode such as 0660 was expected")
    return value


def _parse_pairs(value: Any, what: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict) or not all(isinstance(v, str) and v and k for k, v in value.items()):
        raise ValueError(f"{what} was expected")
    return tuple(value.items())


def _parse_keys(value: Any) -> tuple[tuple[str, str], ...]:
    """Client keys as (name, key). Unnamed ones are called key1, key2 ..."""
    if isinstance(value, dict):
        keys = _parse_pairs(value, "an object of name -> key")
    else:
        if isinstance(value, str):
            value = value.split(",")
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ValueError("a key, several by commas, or an object of name -> key was expected")
        keys = tuple((f"key{number}", key) for number, key in enumerate(filter(None, map(str.strip, value)), 1))
    for _, key in keys:
        _parse_password(key)
    return keys


def _parse_password(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable() or value != value.strip():
        raise ValueError("keys of printable characters were expected: no client can send others")
    return value


def _parse_map(value: Any) -> tuple[tuple[str, str], ...]:
    expected = "a JSON object of name -> model, or a=b,c*=d"
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = jsontext.loads(value)
        except ValueError:
            raise ValueError(f"{expected} was expected") from None
    if isinstance(value, str):
        pairs: dict[str, str] = {}
        for item in filter(None, (piece.strip() for piece in value.split(","))):
            name, equals, model = (piece.strip() for piece in item.partition("="))
            if not (name and equals and model):
                raise ValueError(f"{expected} was expected")
            pairs[name] = model
        value = pairs
    if isinstance(value, dict):  # a list is a model and its fallbacks
        value = {k: "|".join(v) if isinstance(v, list) and all(map(_is_name, v)) else v for k, v in value.items()}
    pairs_found = _parse_pairs(value, expected)
    if not all(_is_name(word) for _, models in pairs_found for word in models.split("|")):
        raise ValueError(f"{expected}, with a|b for a fallback, was expected")
    return pairs_found


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _parse_list(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("a list of texts, or several by commas, was expected")
    return tuple(item.strip() for item in value if item.strip())


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "bool": _parse_bool,
    "int": _parse_int,
    "float": _parse_float,
    "str": _parse_str,
    "mode": _parse_mode,
    "keys": _parse_keys,
    "password": _parse_password,
    "map": _parse_map,
    "list": _parse_list,
}


def parse(setting: Setting, value: Any) -> Any:
    """The checked value of a setting, from text or from JSON. Raises ValueError that says what was expected."""
    result = _PARSERS[setting.kind](value)
    if setting.choices and result not in setting.choices:
        raise ValueError(f"one of {', '.join(setting.choices)} was expected")
    if setting.least is not None and result < setting.least:
        raise ValueError(f"at least {setting.least:g} was expected")
    if setting.most is not None and result > setting.most:
        raise ValueError(f"at most {setting.most:g} was expected")
    return result


# --- sources ---------------------------------------------------------------------------------------------------


def flatten(values: Mapping[str, Any], known: frozenset[str], prefix: str = "") -> dict[str, Any]:
    """config.json with its nesting undone: {"proxy": {"port": 1}} -> {"proxy.port": 1}. Known keys keep objects."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        path = prefix + key
        if isinstance(value, dict) and path not in known and any(k.startswith(path + ".") for k in known):
            flat |= flatten(value, known, path + ".")
        else:
            flat[path] = value
    return flat


def _nearest(word: str, words: list[str]) -> str:
    close = difflib.get_close_matches(word, words, 1, 0.5)
    return f"; did you mean {close[0]}?" if close else ""


def load(flags: Mapping[str, str], environ: Mapping[str, str], file_values: Mapping[str, Any], file: str) -> Loaded:
    """Effective settings from flags (by setting name, None left out), environment and config.json's object.

    `file` names config.json in errors. Raises ConfigError naming the setting that cannot be used.
    """
    by_key = {setting.key: setting for setting in SETTINGS}
    by_variable = {setting.variable: setting for setting in SETTINGS}
    values: dict[str, Any] = {}
    sources = {setting.name: "default" for setting in SETTINGS}
    warnings: list[str] = []

    def take(setting: Setting, value: Any, source: str) -> None:
        try:
            values[setting.name] = parse(setting, value)
        except ValueError as error:
            shown = "" if setting.secret else f" {hide_secrets(str(value))[:80]!r}:"
            raise ConfigError(f"{source}:{shown} {error}") from None
        sources[setting.name] = source

    for key, value in flatten(file_values, frozenset(by_key)).items():
        if key not in by_key:
            raise ConfigError(f"{file}: unknown key {key!r}{_nearest(key, list(by_key))}")
        take(by_key[key], value, f"{file}: {key}")
    for variable, value in environ.items():
        if variable in by_variable:
            setting = by_variable[variable]
            # Compose files write VARIABLE= for "not set": where empty is no value, it means just that.
            if value != "" or (setting.kind in ("str", "map", "keys", "password", "list") and not setting.choices):
                take(setting, value, variable)
        elif variable.startswith(PREFIX) and variable not in NOT_SETTINGS:
            warnings.append(f"unknown variable {variable}{_nearest(variable, [*by_variable, *NOT_SETTINGS])}")
    for name, value in flags.items():
        take(BY_NAME[name], value, BY_NAME[name].flag)
    config = Config(**values)
    if any(character in config.upstream_url for character in "@?#"):
        source = sources["upstream_url"]
        raise ConfigError(f"{source}: a URL without user, password and query was expected: keys belong into accounts")
    if config.allow_lan_access and sources["host"] == "default":
        config = Config(**(values | {"host": "0.0.0.0"}))
        sources["host"] = sources["allow_lan_access"]
    return Loaded(config=config, sources=sources, warnings=tuple(warnings))


def show(setting: Setting, value: Any) -> str:
    """A value as `agproxy config` prints it; secrets are masked."""
    if setting.secret:
        return "(set, not shown)" if value else "(not set)"
    if setting.kind == "map":
        return ", ".join(f"{name}={model}" for name, model in value) or "(none)"
    if setting.kind == "list":
        return ", ".join(value) or "(none)"
    if setting.kind == "bool":
        return "on" if value else "off"
    return str(value).removesuffix(".0") if setting.kind == "float" else str(value)
