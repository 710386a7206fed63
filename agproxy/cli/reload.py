"""Changes of config.json, accounts.json and the certificate while the gateway runs: read, checked, and swapped whole.

A broken edit changes nothing and is one line in the log. Flags and environment go before config.json, as at the start.
SIGHUP has all of them read at once, where the platform knows it.
"""

import argparse
import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import accounts, pool
from ..config import SETTINGS, Config
from ..errors import ConfigError
from ..io import logs
from ..io.beside import beside
from ..io.store import AccountStore, KeyStore
from ..io.systemd import Notifier
from ..io.watch import Stamp, Watched, Watcher, stamp_of
from ..keys import Ring
from . import common

if TYPE_CHECKING:
    from ..embed import Running

log = logging.getLogger("agproxy.reload")


class Reloader:
    """Keeps a running gateway at what its files say."""

    def __init__(self, options: argparse.Namespace, environ: Mapping[str, str], notifier: Notifier) -> None:
        home = common.home_of(options, environ)
        self._notifier = notifier
        self._options = options
        self._environ = environ
        self._config_file = home / "config.json"
        self._store = AccountStore(home, lambda text: log.warning("%s", text))
        self._keys = KeyStore(home, lambda text: log.warning("%s", text))
        self._running: Running | None = None
        self._loaded = Config()
        self._files = [
            Watched(lambda: stamp_of(self._config_file), self._reload_config),
            Watched(self._store.stamp, self._reload_accounts),
            Watched(self._keys.stamp, self._reload_keys),
        ]

    def begin(self, loaded: Config) -> None:
        """The settings as they were read. Before the certificate is: no change of it is missed then."""
        self._loaded = loaded
        if loaded.tls_cert:
            files = [Path(file) for file in (loaded.tls_cert, loaded.tls_key) if file]
            self._files.append(Watched(lambda: _stamp_of_all(files), self._reload_certificate))

    @asynccontextmanager
    async def watching(self, running: "Running") -> AsyncIterator[None]:
        """Apply changes to this gateway within the block."""
        self._running = running
        watcher = Watcher(self._files, lambda: running.gateway.config.reload_seconds, on_nudged=self._notifier.ready)

        def on_hangup() -> None:
            self._notifier.reloading()
            watcher.nudge()

        loop = asyncio.get_running_loop()
        hangup = getattr(signal, "SIGHUP", None)
        if hangup is not None:
            with contextlib.suppress(NotImplementedError):  # a loop without signal handlers, as Windows' is
                loop.add_signal_handler(hangup, on_hangup)
        try:
            async with beside(watcher.run(), "the watching of config.json, accounts.json and keys.json"):
                yield
        finally:
            if hangup is not None:
                with contextlib.suppress(NotImplementedError):
                    loop.remove_signal_handler(hangup)

    async def _reload_config(self) -> None:
        running = self._running
        assert running is not None
        try:
            loaded = await asyncio.to_thread(common.load, self._options, self._environ)
        except ConfigError as error:
            log.error("%s. The settings in force stay as they were", error)
            return
        before, config = self._loaded, loaded.config
        changed = [s for s in SETTINGS if getattr(before, s.name) != getattr(config, s.name)]
        if config.simulate == before.simulate:  # the start may have made off of auto
            config = replace(config, simulate=running.gateway.config.simulate)
        try:
            waiting = running.apply(config)
        except ConfigError as error:
            log.error("%s: %s. The settings in force stay as they were", self._config_file, error)
            return
        self._loaded = loaded.config
        in_force = [setting.key for setting in changed if setting.name not in waiting]
        if (config.log_level, config.log_format) != (before.log_level, before.log_format):
            logs.set_up(config.log_level, config.log_format)
        if in_force:
            log.info("%s: %s changed, in force now", self._config_file, ", ".join(in_force))
        if waiting:
            keys = ", ".join(setting.key for setting in SETTINGS if setting.name in waiting)
            log.warning("%s: %s changed: the old value holds until agproxy is restarted", self._config_file, keys)

    async def _reload_keys(self) -> None:
        running = self._running
        assert running is not None
        try:
            document = await asyncio.to_thread(self._keys.load)
            ring = Ring(document.keys)
            running.use_keys(ring, replace(self._loaded, simulate=running.gateway.config.simulate))
        except ConfigError as error:
            log.error("%s. The keys in force stay as they were", error)
            return
        warn_of_names(ring, running.gateway.config)
        log.info("%s: %d client keys", self._keys.file, len(ring.keys))

    async def _reload_certificate(self) -> None:
        running = self._running
        assert running is not None
        try:
            await asyncio.to_thread(running.renew_certificate)
        except ConfigError as error:
            log.error("%s. The certificate in force stays as it was", error)
        else:
            log.info("%s: read again, in force for new connections", running.gateway.config.tls_cert)

    async def _reload_accounts(self) -> None:
        running = self._running
        assert running is not None
        try:
            document = await asyncio.to_thread(self._store.load)
        except ConfigError as error:
            log.error("%s. The accounts in use stay as they were", error)
            return
        entries = accounts.merge(pool.from_environment(self._environ), document)
        if not entries and running.reach.is_simulated:
            return
        for entry in entries:
            if entry.record.is_enabled and not entry.is_known:
                log.warning("account %s is of a kind that this version does not know: it is not used", entry.name)
        old = {account.id for account in running.gateway.pool.accounts}
        usable = accounts.usable(entries)
        running.use(usable)
        new = {account.id for account in usable}
        came, went = ", ".join(sorted(new - old)), ", ".join(sorted(old - new))
        log.info(
            "%s: %d accounts in use%s%s",
            self._store.file,
            len(usable),
            f"; new: {came}" if came else "",
            f"; no longer: {went}" if went else "",
        )


def warn_of_names(ring: Ring, config: Config) -> None:
    """Whoever has a name has all that was kept for it: two keys of one name are one client."""
    for name in sorted(ring.by_name.keys() & dict(config.api_key).keys()):
        log.warning(
            "the client key %s stands both in keys.json and in api_key: to the gateway they are one client", name
        )


def _stamp_of_all(files: Sequence[Path]) -> Stamp:
    """Changes with every change of any of the files."""
    return tuple(number for file in files for number in stamp_of(file) or (0,))
