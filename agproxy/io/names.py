"""Host names -> addresses, as the system knows them, in threads that nobody waits for.

A look-up cannot be stopped: where no DNS server answers it takes the system's own time, up to half a minute. The event
loop's own way runs it in a pool whose threads are joined when the loop closes and once more when Python ends, so that
Ctrl-C would seem to do nothing for as long. Here the threads are daemons, which end with the process.
"""

import asyncio
import socket
import threading
from collections.abc import Sequence
from typing import Any

# (family, kind, protocol, canonical name, what sockets of this family take for an address), as getaddrinfo has them.
Found = Sequence[tuple[int, int, int, str, Any]]

# Names that are looked up at once. So many are under way only where nothing is answered any more.
_MOST_THREADS = 64


class Names:
    """Looks names up. Whoever asks for a name that is being looked up gets the same answer, by the same thread."""

    def __init__(self) -> None:
        self._under_way: dict[tuple[str, int], asyncio.Future[Found | Exception]] = {}

    async def look_up(self, host: str, port: int) -> Found:
        """A name's addresses. Raises socket.gaierror, and UnicodeError for what can be no name."""
        under_way = self._under_way.get((host, port))
        if under_way is None:
            under_way = self._begin(host, port)
        found = await asyncio.shield(under_way)  # others may wait for it, too
        if isinstance(found, Exception):
            raise found
        return found

    def _begin(self, host: str, port: int) -> "asyncio.Future[Found | Exception]":
        if len(self._under_way) >= _MOST_THREADS:
            raise socket.gaierror(socket.EAI_AGAIN, "too many names are being looked up")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Found | Exception] = loop.create_future()

        def end(found: Found | Exception) -> None:
            del self._under_way[host, port]
            future.set_result(found)

        def work() -> None:
            found: Found | Exception
            try:
                found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except Exception as error:  # raised to whoever has asked
                found = error
            try:
                loop.call_soon_threadsafe(end, found)
            except RuntimeError:  # the loop has been closed meanwhile
                return

        threading.Thread(target=work, name="agproxy-names", daemon=True).start()
        self._under_way[host, port] = future
        return future
