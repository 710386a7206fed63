"""The clients towards upstream: one for most calls, and one more for each proxy that an account has of its own.

Knows which client carries a call. Proxies differ, everything else of the settings is the same; so a connection that
rests is never used through another proxy than its own.
"""

from collections.abc import Awaitable
from dataclasses import replace

from ..config import Config
from ..http11 import Call, UpstreamReply
from .client import Client
from .egress import Egress


class Lines:
    """Carries calls to upstream, and nowhere that `egress` does not let through."""

    def __init__(self, config: Config, egress: Egress) -> None:
        self._config = config
        self._egress = egress
        self._usual = Client(config, egress)
        self._through: dict[str, Client] = {}

    @property
    def config(self) -> Config:
        """The settings in force. Setting it is for connections to come."""
        return self._config

    @config.setter
    def config(self, config: Config) -> None:
        self._config = config
        self._usual.config = config
        for proxy, client in self._through.items():
            client.config = replace(config, upstream_proxy=proxy)

    @property
    def open(self) -> int:
        """Connections that stand."""
        return sum(client.open for client in (self._usual, *self._through.values()))

    def send(self, call: Call) -> Awaitable[UpstreamReply]:
        """The answer to a call, as `Client.send` has it."""
        if not call.proxy:
            return self._usual.send(call)
        client = self._through.get(call.proxy)
        if client is None:
            client = self._through[call.proxy] = Client(replace(self._config, upstream_proxy=call.proxy), self._egress)
        return client.send(call)

    async def close(self) -> None:
        """Cut every connection."""
        for client in (self._usual, *self._through.values()):
            await client.close()
