"""The service itself: an ASGI application with the documented limits, errors and filters."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any

import attrs

from voicenter_cdr.sandbox.behaviour import Behaviour
from voicenter_cdr.sandbox.faults import ConnectionDroppedError, Fault, Faults, Hit
from voicenter_cdr.sandbox.population import Population
from voicenter_cdr.sandbox.recordings import serve_recording
from voicenter_cdr.sandbox.rendering import RecordRenderer
from voicenter_cdr.sandbox.request import ParsedRequest, parse_request
from voicenter_cdr.sandbox.response import ResponseWriter, Send
from voicenter_cdr.sandbox.selection import select_rows

__all__ = ["Sandbox"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Sandbox:
    """A Call Log service to run against, as an ASGI application.

    ``population``: its records. ``behaviour``: the switches. ``codes`` and ``tokens``: accepted credentials.
    ``now``: the wall clock in seconds since 1970, for records that appear late. ``faults``: faults of its responses.
    ``seed``: another one scatters rows differently where no sort orders them.
    Serve it with :func:`serving`, or use it in process through ``httpx.ASGITransport``. ``hits`` lists its requests,
    in order of arrival; clear it to start over. ``behaviour`` and ``faults`` can be replaced while it runs.
    It also serves the recordings of synthetic calls, at the path their links have; see ``Behaviour.recordings``.
    """

    path = "/hub/cdr"

    def __init__(
        self,
        population: Population,
        *,
        behaviour: Behaviour | None = None,
        codes: Iterable[str] = ("sandbox-code",),
        tokens: Iterable[str] = ("sandbox-token",),
        now: Callable[[], float] = time.time,
        faults: Faults = None,
        seed: int = 0,
    ) -> None:
        self.population = population
        self.behaviour = behaviour or Behaviour()
        self.faults = faults
        self.hits: list[Hit] = []
        self._codes = frozenset(codes)
        self._tokens = frozenset(tokens)
        self._now = now
        self._seed = seed
        self._counted: dict[str, deque[float]] = defaultdict(deque)

    def replace(self, population: Population) -> None:
        """Serve other records from the next request on; a response in progress keeps the old ones."""
        self.population = population

    def busiest(self, period: float = 60.0) -> int:
        """Most requests that arrived in any ``period`` seconds, both ends included."""
        times = sorted(hit.at for hit in self.hits)
        return max((bisect_right(times, at + period) - place for place, at in enumerate(times)), default=0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        at = asyncio.get_running_loop().time()
        body = await _body(receive)
        if body is None:
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        reply = ResponseWriter(self.behaviour, send, accepts_gzip="gzip" in headers.get("accept-encoding", ""))
        if scope["method"] == "GET" and (recording := serve_recording(scope["path"], headers)):
            await ResponseWriter(self.behaviour, send, accepts_gzip=False).plain(
                *recording[:2], "audio/mpeg", recording[2]
            )
        elif scope["path"].rstrip("/") != self.path:
            await reply.plain(404, b"<html><body>not found</body></html>", "text/html")
        elif scope["method"] not in ("GET", "POST"):
            await reply.plain(405, b"<html><body>method not allowed</body></html>", "text/html")
        else:
            asked = parse_request(scope["method"], scope.get("query_string", b""), body, headers)
            here = f"{scope.get('scheme', 'http')}://{headers.get('host', '')}"
            await self._answer(asked, str((scope.get("client") or ("",))[0]), at, reply, here)

    async def _answer(self, asked: ParsedRequest, address: str, at: float, reply: ResponseWriter, here: str) -> None:
        population, behaviour, place = self.population, self.behaviour, len(self.hits)
        hit = Hit(at=at, window=asked.window, sort=asked.sort, cdr_types=asked.cdr_types, fields=asked.fields)
        self.hits.append(hit)  # at once: an abandoned request counts, too
        number = self._refusal(asked, address, at)
        rows: Sequence[int] = ()
        total = 0
        if not number:
            rows, total = await select_rows(population, behaviour, asked, now=self._now(), seed=self._seed)
        hit = self._note(hit, number=number, rows=len(rows), total=total)
        fault = self._fault(place, hit)
        if fault.error is not None:
            number = fault.error
            hit = self._note(hit, number=number)
        latency = behaviour.latency(hit) if callable(behaviour.latency) else behaviour.latency
        pause = latency + behaviour.per_row * len(rows) + fault.hang
        if pause > 0:
            await asyncio.sleep(pause)
        if fault.drop:
            raise ConnectionDroppedError("the service broke the connection")
        if number:
            await reply.error(number, address, fault)
        else:
            await reply.rows(RecordRenderer(population, behaviour, asked.fields, here).show, rows, total, fault)

    def _note(self, hit: Hit, **more: Any) -> Hit:
        """Replace the facts known on arrival by those known by now."""
        known = attrs.evolve(hit, **more)
        for place in range(len(self.hits) - 1, -1, -1):
            if self.hits[place] is hit:
                self.hits[place] = known
                break
        return known

    def _fault(self, place: int, hit: Hit) -> Fault:
        found = self.faults(place, hit) if callable(self.faults) else (self.faults or {}).get(place)
        return found or Fault()

    def _refusal(self, asked: ParsedRequest, address: str, at: float) -> int:
        """Return the error number this request deserves, by credential, address, rate and period; 0 for none."""
        behaviour = self.behaviour
        right = asked.token in self._tokens if asked.token else asked.code in self._codes
        if not right:
            return 2
        if asked.token is None and behaviour.trusted is not None and address not in behaviour.trusted:
            return 4
        if not self._within_rate(asked.token or asked.code or "", at):
            return 1
        if asked.first is None or asked.last is None or asked.first > asked.last:
            return 5
        return 5 if behaviour.max_range is not None and asked.last - asked.first > behaviour.max_range else 0

    def _within_rate(self, credential: str, at: float) -> bool:
        behaviour, counted = self.behaviour, self._counted[credential]
        fixed = behaviour.rate_window == "fixed"
        oldest = at // behaviour.period * behaviour.period if fixed else at - behaviour.period
        while counted and (counted[0] < oldest if fixed else counted[0] <= oldest):
            counted.popleft()
        accepted = len(counted) < behaviour.requests
        if accepted or behaviour.count_rejected:
            counted.append(at)
        return accepted


async def _body(receive: Receive) -> bytes | None:
    """Return the body of a request; ``None`` if its sender is gone."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
