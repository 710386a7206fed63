"""Which requests are under way, and one `Entry` for each that ends, handed to whoever observes.

Exactly one, however the request ends: answered, refused, failed in the middle of a stream, left by its client, or by a
bug. A background run is its request's end, not the answer that told of its begin. The first observer is the access log.
"""

import asyncio
import logging
from collections.abc import Callable

from . import entries, trace
from .config import Config
from .conversation import Usage
from .entries import CUT_SHORT, Entry
from .errors import GatewayError, InternalError
from .exchange import Progress
from .http11 import HttpRequest, header_safe

log = logging.getLogger("agproxy.ledger")
access_log = logging.getLogger("agproxy.access")

Observer = Callable[[Entry], None]

# Nobody is told of these; they are for the entry.
_CUT_SHORT = GatewayError("The client left, or the gateway stopped, before the answer had ended.", code="cut_short")
_CANCELLED = GatewayError("The run was cancelled.", code="cancelled")
_NO_USAGE = Usage()
_MOST_METHOD_CHARACTERS = 20
_MOST_PATH_CHARACTERS = 200
_MOST_NAME_CHARACTERS = 256
_MOST_MESSAGE_CHARACTERS = 2000


class Ledger:
    """Requests of one gateway. `in_flight`: by request id, as far as they have come. `observers`: told of each
    that ends.

    write_line: where lines of the access log go; by default to the logger agproxy.access.
    """

    def __init__(
        self,
        *,
        config: Callable[[], Config],
        now: Callable[[], float],
        clock: Callable[[], float],
        new_id: Callable[[], str],
        observers: tuple[Observer, ...] = (),
        write_line: Callable[[str], None] | None = None,
    ) -> None:
        self.in_flight: dict[str, Progress] = {}
        self._config = config
        self._now = now
        self._clock = clock
        self._new_span = lambda: new_id()[-16:]
        self.observers: list[Observer] = [self._log, *observers]
        self._write_line = write_line or access_log.info

    def begin(self, request: HttpRequest) -> Progress:
        """A request has come."""
        progress = self.in_flight[request.id] = Progress(
            request=request,
            at=self._now(),
            started=self._clock(),
            size_bytes=len(request.body),
            trace=trace.read(request.headers, self._new_span),
        )
        return progress

    def end(self, progress: Progress, status: int, error: GatewayError | None = None) -> None:
        """It has ended. Of a request that has a background run only the run's end counts: see `end_run`."""
        if not progress.is_background:
            self._end(progress, status, error)

    def end_run(self, progress: Progress, error: GatewayError | None, *, is_cancelled: bool) -> None:
        """The background run of a request has ended. is_cancelled: its client asked for that."""
        if is_cancelled:
            self._end(progress, CUT_SHORT, _CANCELLED)
        else:
            self._end(progress, 200 if error is None else error.status, error)

    def cut(self, progress: Progress, reason: BaseException) -> None:
        """Its handler was cancelled, or has failed."""
        if progress.is_background:
            return
        if isinstance(reason, asyncio.CancelledError):
            self._end(progress, CUT_SHORT, _CUT_SHORT)
        else:
            self._end(progress, InternalError.status, InternalError(type(reason).__name__))

    def hand_over(self, progress: Progress) -> None:
        """Another process answers it under the same id, and its ledger has the entry."""
        del self.in_flight[progress.request.id]

    def take_back(self, progress: Progress) -> None:
        """The other process has gone, and tells nobody of it."""
        self.in_flight[progress.request.id] = progress

    def refused(self, request_id: str, peer: str, method: str, path: str, error: GatewayError) -> None:
        """It has broken HTTP or a limit of the server, and came to no handler. What of it was not read is ""."""
        self._tell(
            Entry(
                id=request_id,
                at=self._now(),
                peer=peer,
                method=header_safe(method, _MOST_METHOD_CHARACTERS),
                path=header_safe(path, _MOST_PATH_CHARACTERS),
                status=error.status,
                error=error.code or type(error).__name__,
                message=error.message[:_MOST_MESSAGE_CHARACTERS],
            )
        )

    def _end(self, progress: Progress, status: int, error: GatewayError | None) -> None:
        request, account, usage = progress.request, progress.account, progress.usage or _NO_USAGE
        if self.in_flight.get(request.id) is not progress:
            return
        del self.in_flight[request.id]
        started, first = progress.started, progress.first_byte_at
        recording = progress.recording
        if recording is not None and recording.is_for_errors and status < 400:
            recording = None
        entry = Entry(
            id=request.id,
            at=progress.at,
            client=progress.client,
            peer=request.peer,
            protocol=progress.protocol,
            method=request.method,
            path=header_safe(request.path, _MOST_PATH_CHARACTERS),
            action=progress.action,
            is_stream=progress.is_stream,
            model_asked=progress.model_asked[:_MOST_NAME_CHARACTERS],
            model=progress.model,
            account=None if account is None else account.id,
            attempts=progress.attempts,
            outcomes=tuple(progress.outcomes),
            status=status,
            error=None if error is None else error.code or type(error).__name__,
            message=None if error is None else error.message[:_MOST_MESSAGE_CHARACTERS],
            bytes_in=progress.size_bytes,
            bytes_out=progress.bytes_out,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            output_tokens=usage.output_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            first_byte_seconds=None if first is None else first - started,
            total_seconds=self._clock() - started,
            waited_seconds=progress.waited_seconds,
            notices=progress.told if progress.notices else (),
            trace=None if progress.trace is None else progress.trace.id,
            steps=tuple(progress.steps),
            recording=recording,
        )
        self._tell(entry)

    def _tell(self, entry: Entry) -> None:
        for observe in self.observers:
            try:
                observe(entry)
            except Exception:  # the boundary: what only looks on must not break an answer
                log.exception("request %s: an observer failed", entry.id)

    def _log(self, entry: Entry) -> None:
        if not access_log.isEnabledFor(logging.INFO):
            return
        if self._config().log_format == "json":
            self._write_line(entries.json_line(entry))
            return
        self._write_line(entries.text_line(entry))
        if entry.notices:
            access_log.info("%s warnings: %s", entry.id, header_safe("; ".join(entry.notices)))
