"""Which hosts a file may be fetched from: URLs taken apart strictly, addresses judged in every notation.

Follows the URL standard of the WHATWG for hosts and numbers that are addresses, the special-purpose registries of
IANA for what is public, and RFC 6052, 3056, 4380 and 5214 for IPv4 addresses within IPv6 ones. Pure: resolves nothing.
"""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from .proxy import join_host

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORTS = {"http": 80, "https": 443}
_MOST_CHARACTERS = 8192
_MOST_HOST = 254  # 253, and a last dot
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
# Ports above 1023 that browsers refuse to speak HTTP to, and those of databases and caches that take it for commands.
_OTHER_PORTS = frozenset(
    {1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, *range(6665, 6670), 6679, 6697, 10080}
    | {2375, 2379, 3306, 5432, 5672, 6379, 9042, 9092, 9200, 9300, 10250, 11211, 27017}
)

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Written out, since what the standard library calls global differs between Python versions.
_SPECIAL = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # public by its number, but within Azure it is the platform of the machine
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "2001::/23",  # Teredo among others, which hides an IPv4 address
        "2001:db8::/32",
        "3fff::/20",
    )
)
# One's own network. Loopback and link-local are not: what answers there is the machine itself, or its cloud.
_OWN = tuple(
    ipaddress.ip_network(network)
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
_CLOUD = ipaddress.ip_address("fd00:ec2::254")  # AWS tells a machine its credentials there


class BadUrl(ValueError):
    """The URL is not one that a file is fetched from. The message says why and quotes nothing but the scheme."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL to fetch, made anew from its checked parts. `host` is a name in lower case or an address."""

    scheme: str
    host: str
    port: int
    rest: str

    @property
    def url(self) -> str:
        port = None if self.port == _PORTS[self.scheme] else self.port
        return f"{self.scheme}://{join_host(self.host, port)}{self.rest}"


def parse_target(url: str) -> Target:
    """The parts of an http(s) URL. Raises BadUrl for anything unusual: it is not repaired, it is refused."""
    if len(url) > _MOST_CHARACTERS:
        raise BadUrl(f"it is longer than {_MOST_CHARACTERS} characters")
    if any(c <= " " or c in "\\\x7f" or "\ud800" <= c <= "\udfff" for c in url):
        raise BadUrl("it has characters that no URL has")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise BadUrl("it is no URL") from None
    if parts.scheme not in _PORTS:
        raise BadUrl("only http and https are fetched")
    if "@" in parts.netloc:
        raise BadUrl("user names and passwords in a URL are not taken")
    if not host:
        raise BadUrl("it names no host")
    port = _PORTS[parts.scheme] if port is None else port
    if port not in (80, 443) and (port < 1024 or port in _OTHER_PORTS):
        raise BadUrl(f"port {port} is not one for files on the web")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]") if parts.query else ""
    host = _parse_ipv6(host) if "[" in parts.netloc else _parse_host(host)
    return Target(parts.scheme, host, port, path + query)


def _parse_ipv6(host: str) -> str:
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        raise BadUrl("its host is no IPv6 address") from None
    if address.scope_id is not None:
        raise BadUrl("its host is no IPv6 address of the internet")
    return str(address)


def _parse_host(host: str) -> str:
    """A host as it is resolved: an IPv4 address in its usual notation, or a name in ASCII."""
    if len(host) > _MOST_HOST:
        raise BadUrl("its host is no name")
    if not host.isascii():
        try:
            # Before numbers are looked for: full-width digits become plain ones here.
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            raise BadUrl("its host is no name") from None
    host = host.lower().removesuffix(".")
    labels = host.split(".")
    if len(host) > _MOST_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        raise BadUrl("its host is no name")
    if _NUMBER.fullmatch(labels[-1]):
        return _parse_ipv4(labels)
    if labels[-1] == "localhost":
        raise BadUrl("its host is the gateway itself")
    return host


def _parse_ipv4(labels: list[str]) -> str:
    """One to four numbers, decimal, octal or hexadecimal, of which the last one fills what is left."""
    numbers = []
    for label in labels:
        if not _NUMBER.fullmatch(label):
            raise BadUrl("its host is no IPv4 address")
        is_octal = len(label) > 1 and label[0] == "0" and label[1] != "x"
        try:
            numbers.append(int(label[2:] or "0", 16) if label.startswith("0x") else int(label, 8 if is_octal else 10))
        except ValueError:
            raise BadUrl("its host is no IPv4 address") from None
    *first, last = numbers
    if len(numbers) > 4 or any(number > 255 for number in first) or last >= 256 ** (5 - len(numbers)):
        raise BadUrl("its host is no IPv4 address")
    value = last + sum(number << (8 * (3 - place)) for place, number in enumerate(first))
    return str(ipaddress.IPv4Address(value))


def as_address(host: str) -> Address | None:
    """The address that a host is, None where it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv4-mapped one means, any other as it is."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that packets to this one may end at."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:  # how networks with IPv6 alone see every IPv4 host
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.sixtofour is not None:
        return address.sixtofour
    if (int(address) >> 32) & 0xFDFFFFFF == 0x00005EFE:  # ISATAP
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def is_public(address: Address) -> bool:
    """Whether an address is one of the internet's, to the last layer that it hides."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _embedded(address)
        if inner is not None and not is_public(inner):
            return False
        if inner is not None and (address.ipv4_mapped is not None or address in _NAT64):
            return True
        if address not in _GLOBAL_UNICAST or address.scope_id is not None:
            return False
        if address.sixtofour is not None:
            return True
    is_special = any(address in network for network in _SPECIAL)
    return address.is_global and not address.is_multicast and not is_special


def is_own_network(address: Address) -> bool:
    """Whether an address is a private one that a setting may allow: never loopback, link-local or a cloud's."""
    address = unwrapped(address)
    return address != _CLOUD and any(address in network for network in _OWN)
