"""Which hosts this process may connect to: those of its configuration. `dial` asks before it makes a socket.

The list is worked out by `agproxy.egress` from settings and accounts, anew when accounts change, and is what
`agproxy config --egress` prints. Hosts are taken by name as the configuration has them; their addresses are the
resolver's matter, and TLS holds the one to the other.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import UpstreamFailed
from .proxy import join_host

log = logging.getLogger("agproxy.egress")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A host that may be connected to. port: 0 for one that is only known once it listens. why: the settings and
    accounts that name it. through: the proxy by which it is reached, "" for none."""

    host: str
    port: int
    why: tuple[str, ...]
    through: str = ""

    @property
    def name(self) -> str:
        return join_host(self.host, self.port or None)


class Egress:
    """The places of the moment."""

    def __init__(self, places: Iterable[Place] = ()) -> None:
        self.allow(places)

    def allow(self, places: Iterable[Place]) -> None:
        """Let these be connected to, and no others any more."""
        self._allowed = frozenset((place.host, place.port) for place in places)

    def check(self, host: str, port: int) -> None:
        """Raises UpstreamFailed, which names the host, where it is none of the places."""
        if (host, port) not in self._allowed:
            name = join_host(host, port)
            log.error("%s is no host of this configuration: no connection is made", name)
            raise UpstreamFailed(
                f"{name} is no host of agproxy's configuration, so no connection is made to it "
                "(agproxy config --egress lists those that are)",
                code="egress_refused",
            )
