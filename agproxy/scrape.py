"""The answer of /metrics: what this process has counted, what stands at this moment, and the same of other workers."""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import __version__, metrics
from .gateway import Gateway
from .http11 import HttpResponse
from .io import process
from .io.handed import Handed
from .io.lag import Lag
from .io.lines import Lines
from .io.server import Server
from .io.workers import Worker
from .metrics import Counters, Data

_NAME = "metrics"
_MOST_COOL_DOWNS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is looked at for a scrape."""

    gateway: Gateway
    server: Server
    lines: Lines
    lag: Lag


class Scraper:
    """Answers for all workers of one address; `seen` is called at a scrape, when all of it is there. dropped: entries
    that the journal could not take."""

    def __init__(self, seen: Callable[[], Seen], dropped: Callable[[], int], worker: Worker | None) -> None:
        self.counters = Counters()
        self._dropped = dropped
        self._seen = seen
        self._worker = worker
        self._handed = None if worker is None else Handed(worker.folder, worker.name, worker)
        if worker is not None:
            worker.publish(_NAME, self._tell)

    async def answer(self, accept: str | None) -> HttpResponse:
        """What a scraper gets. accept: its Accept header."""
        parts = [self._data()]
        if self._worker is not None and self._handed is not None:
            answers = await self._worker.gather(_NAME)
            parts[0] = self._data()  # later than theirs, so that a request that was handed over counts once at least
            self._handed.write(metrics.counted(parts[0]))
            parts += [answer["data"] for answer in answers]
            parts += await self._handed.others(answer["name"] for answer in answers)
        kind = metrics.content_type(accept)
        text = metrics.render(metrics.merge(parts) if len(parts) > 1 else parts[0], kind)
        return HttpResponse(status=200, headers=(("content-type", kind),), body=text)

    def hand_on(self) -> None:
        """This worker leaves: what it has counted stays."""
        if self._handed is not None:
            self._handed.close(self._counted())

    def _tell(self) -> dict[str, Any]:
        """To another worker that adds up."""
        assert self._worker is not None
        assert self._handed is not None
        data = self._data()
        self._handed.write(metrics.counted(data))
        return {"name": self._worker.name, "data": data}

    def _counted(self) -> Data:
        return self.counters.data() | {
            "agproxy_journal_dropped_total": [[[], self._dropped()]],
            "process_cpu_seconds_total": [[[], time.process_time()]],
        }

    def _data(self) -> Data:
        seen = self._seen()
        gateway = seen.gateway
        under_way = list(gateway.in_flight.values())
        data: Data = self._counted() | {
            "agproxy_requests_in_flight": [[[], len(under_way)]],
            "agproxy_streams_open": [[[], sum(p.is_stream and p.first_byte_at is not None for p in under_way)]],
            "agproxy_requests_queued": [[[], gateway.queued]],
            "agproxy_connections": [[["client"], seen.server.open], [["upstream"], seen.lines.open]],
            "agproxy_event_loop_lag_seconds": [[[], seen.lag.seconds]],
            "agproxy_workers": [[[], 1]],
            "agproxy_build_info": [[[__version__, platform.python_version()], 1]],
            "process_start_time_seconds": [[[], process.started_at()]],
        }
        data |= _of_pool(gateway, time.time())
        for name, value in (
            ("process_resident_memory_bytes", process.resident_bytes()),
            ("process_open_fds", process.open_files()),
            ("process_max_fds", process.most_files()),
        ):
            if value is not None:
                data[name] = [[[], value]]
        return data


def _of_pool(gateway: Gateway, now: float) -> Data:
    """Accounts and their limits. Of very many limits the longest are told."""
    pool = gateway.pool
    cool_downs = sorted(pool.cool_downs(now).items(), key=lambda pair: -pair[1].until)
    limited = {owner for (owner, _), _ in cool_downs}
    cooling = sum(account.id in limited or account.quota in limited for account in pool.accounts)
    return {
        "agproxy_accounts": [[["ready"], len(pool.accounts) - cooling], [["cooling"], cooling]],
        "agproxy_account_requests_in_flight": [[[account.id], pool.in_flight(account.id)] for account in pool.accounts],
        "agproxy_account_cooling_seconds": [
            [[owner, model, cool_down.cause.name.lower()], round(cool_down.until - now, 3)]
            for (owner, model), cool_down in cool_downs[:_MOST_COOL_DOWNS]
        ],
    }
