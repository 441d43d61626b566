"""The service itself: an ASGI application with the documented limits, errors and filters."""

from __future__ import annotations

import asyncio
import functools
import gzip
import heapq
import json
import time
from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import attrs
from attrs import frozen

from voicenter_cdr.sandbox.behaviour import Behaviour, Fault, Faults, Hit
from voicenter_cdr.sandbox.population import EPOCH, Population

__all__ = ["ConnectionDroppedError", "Sandbox"]

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

_DESCRIPTIONS = {
    0: "OK",
    1: "Request limit exceeded. Please try again later.",
    2: "Authorization failed.",
    4: "IP address {address} is not trusted.",
    5: "Out of range",
}
_STATUSES = {0: 200, 1: 403, 2: 403, 4: 403, 5: 404}
_SLICE = 250
_LISTS = {"phones", "extensions", "cdrtypes", "campaignid", "queueid"}


class ConnectionDroppedError(ConnectionError):
    """The service broke the connection, in process."""


@frozen(kw_only=True)
class _Wanted:
    """A request, understood."""

    code: str | None
    token: str | None
    first: float | None
    last: float | None
    fields: tuple[str, ...]
    sort: tuple[tuple[str, str], ...]
    filters: Mapping[str, Any]


def _seconds(text: object) -> float | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (moment - EPOCH) / timedelta(seconds=1)


def _folded(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {key.lower(): value for key, value in items}


def _understand(method: str, query: bytes, body: bytes, headers: Mapping[str, str]) -> _Wanted:
    if method == "GET":
        flat: dict[str, Any] = defaultdict(list)
        for key, value in parse_qsl(query.decode("latin-1")):
            flat[key.lower()].append(value)
        search = {key: value if key in _LISTS else value[0] for key, value in flat.items()}
        fields, code = flat.get("fields", []), search.get("code")
        levels = sorted(key.split(".")[0] for key in search if key.startswith("sort[") and key.endswith("].field"))
        sort = [{"field": search[f"{n}.field"], "order": search.get(f"{n}.order", "asc")} for n in levels]
    else:
        try:
            top = _folded(json.loads(body).items())
            search = _folded((top.get("search") or {}).items())
        except (ValueError, AttributeError):
            top, search = {}, {}
        fields, code, sort = top.get("fields") or [], top.get("code"), top.get("sort") or []
    scheme, _, token = headers.get("authorization", "").partition(" ")
    levels_asked = [_folded(level.items()) for level in sort]
    return _Wanted(
        code=code,
        token=token if scheme.lower() == "bearer" and token else None,
        first=_seconds(search.get("fromdate")),
        last=_seconds(search.get("todate")),
        fields=tuple(fields),
        sort=tuple((str(level.get("field", "")), str(level.get("order", "asc")).lower()) for level in levels_asked),
        filters={key: value for key, value in search.items() if key not in ("fromdate", "todate", "code") and value},
    )


def _digits(number: object) -> str:
    """A number without its spelling: Israeli numbers with and without 972 are the same."""
    text = "".join(letter for letter in str(number) if letter.isdigit())
    return text.removeprefix("972").removeprefix("0")


def _matches(record: Mapping[str, Any], filters: Mapping[str, Any]) -> bool:
    value = {key.lower(): item for key, item in record.items()}
    for name, wanted in filters.items():
        if name == "phones":
            numbers = {_digits(value.get("callernumber", "")), _digits(value.get("targetnumber", ""))}
            right = bool(numbers & {_digits(number) for number in wanted})
        elif name == "extensions":
            right = bool({value.get("callerextension"), value.get("targetextension")} & set(wanted))
        elif name == "callid":
            right = value.get("callid") == wanted
        elif name == "cdrtypes":
            right = str(value.get("cdrtype")) in {str(kind) for kind in wanted}
        elif name in ("queueid", "campaignid"):
            hidden = value.get("_queue_id" if name == "queueid" else "_campaign_id")
            right = hidden is not None and str(hidden) in {str(item) for item in wanted}
        else:
            right = True
        if not right:
            return False
    return True


def _scatter(index: int) -> int:
    """A fixed order that has nothing to do with time."""
    return index * 2_654_435_761 % 2**32


class Sandbox:
    """A Call Log service to run against, as an ASGI application.

    ``population``: its records. ``behaviour``: the switches. ``codes`` and ``tokens``: accepted credentials.
    ``now``: the wall clock in seconds since 1970, for records that appear late. ``faults``: what goes wrong.
    Serve it with :func:`serving`, or use it in process through ``httpx.ASGITransport``.
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
    ) -> None:
        self.population = population
        self.behaviour = behaviour or Behaviour()
        self.faults = faults
        self.hits: list[Hit] = []
        self._codes = frozenset(codes)
        self._tokens = frozenset(tokens)
        self._now = now
        self._counted: dict[str, deque[float]] = defaultdict(deque)

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
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if message["type"] == "http.disconnect" or not message.get("more_body"):
                break
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        reply = _Reply(self.behaviour, send, "gzip" in headers.get("accept-encoding", ""))
        if scope["path"].rstrip("/") != self.path:
            await reply.plain(404, b"<html><body>not found</body></html>", "text/html")
            return
        if scope["method"] not in ("GET", "POST"):
            await reply.plain(405, b"<html><body>method not allowed</body></html>", "text/html")
            return
        wanted = _understand(scope["method"], scope.get("query_string", b""), body, headers)
        client = scope.get("client") or ("", 0)
        await self._answer(wanted, str(client[0]), at, reply)

    async def _answer(self, wanted: _Wanted, address: str, at: float, reply: _Reply) -> None:
        error = self._refusal(wanted, address, at)
        rows: Sequence[int] = ()
        total = 0
        if not error:
            rows, total = self._select(wanted)
        hit = Hit(
            at=at,
            number=error,
            window=None if wanted.first is None or wanted.last is None else (wanted.first, wanted.last),
            rows=len(rows),
            total=total,
            sort=wanted.sort,
            cdr_types=tuple(int(kind) for kind in wanted.filters.get("cdrtypes", ())),
            fields=wanted.fields,
        )
        place = len(self.hits)
        fault = self.faults(place, hit) if callable(self.faults) else (self.faults or {}).get(place)
        fault = fault or Fault()
        if fault.error is not None:
            error = fault.error
            hit = attrs.evolve(hit, number=error)
        self.hits.append(hit)
        latency = self.behaviour.latency
        pause = (latency(hit) if callable(latency) else latency) + self.behaviour.per_row * len(rows) + fault.hang
        if pause > 0:
            await asyncio.sleep(pause)
        if fault.drop:
            raise ConnectionDroppedError("the service broke the connection")
        if error:
            await reply.error(error, address, fault)
        else:
            await reply.rows((self._shown(index, wanted.fields) for index in rows), len(rows), total, fault)

    def _refusal(self, wanted: _Wanted, address: str, at: float) -> int:
        """The error number this request deserves, by credential, address, rate and period."""
        behaviour = self.behaviour
        right = (wanted.token in self._tokens) if wanted.token else (wanted.code in self._codes)
        if not right:
            return 2
        if wanted.token is None and behaviour.trusted is not None and address not in behaviour.trusted:
            return 4
        if not self._within_rate(wanted.token or wanted.code or "", at):
            return 1
        first, last = wanted.first, wanted.last
        if first is None or last is None or first > last:
            return 5
        return 5 if behaviour.max_range is not None and last - first > behaviour.max_range else 0

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

    # -- which rows

    def _select(self, wanted: _Wanted) -> tuple[Sequence[int], int]:
        behaviour, times = self.behaviour, self.population.times
        first, last = wanted.first or 0.0, wanted.last or 0.0
        low, high = (round((edge - behaviour.offset_hours * 3600) * 1000) for edge in (first, last))
        if behaviour.fractions == "none":
            start = _edge(times, low, 1000, after=behaviour.lower == "exclusive")
            stop = _edge(times, high, 1000, after=behaviour.upper == "inclusive")
        else:
            start = (bisect_left if behaviour.lower == "inclusive" else bisect_right)(times, low)
            stop = (bisect_right if behaviour.upper == "inclusive" else bisect_left)(times, high)
        found: Sequence[int] = range(start, max(start, stop))
        appearances = self.population.appearances
        if appearances is not None:
            now = self._now()
            found = [index for index in found if appearances[index] <= now]
        filters = wanted.filters
        if filters.keys() - {"identitycriteria"}:
            found = [index for index in found if _matches(self.population.record(index), filters)]
        return self._cut(found, wanted.sort), len(found)

    def _cut(self, found: Sequence[int], sort: tuple[tuple[str, str], ...]) -> Sequence[int]:
        behaviour = self.behaviour
        if behaviour.sort == "after_cut" and len(found) > behaviour.cap:
            found = heapq.nsmallest(behaviour.cap, found, key=_scatter)
        if behaviour.sort == "ignored" or not sort:
            return heapq.nsmallest(behaviour.cap, found, key=_scatter)
        return self._sorted(found, sort)[: behaviour.cap]

    def _sorted(self, found: Sequence[int], sort: tuple[tuple[str, str], ...]) -> Sequence[int]:
        stored = self._stored
        (name, order), *more = sort
        reverse = order == "desc"
        if not more and name.lower() == "date" and self.behaviour.ties == "reversed":
            found = found if isinstance(found, range) else sorted(found)
            return found[::-1] if reverse else found
        rows = sorted(found, key=_scatter) if self.behaviour.ties == "scrambled" else sorted(found, reverse=reverse)
        for field_name, way in reversed(sort):
            if field_name.lower() == "date":
                rows.sort(key=stored, reverse=way == "desc")
            else:
                rows.sort(key=functools.partial(self._sort_key, field_name.lower()), reverse=way == "desc")
        return rows

    def _stored(self, index: int) -> int:
        stored = self.population.times[index]
        return stored // 1000 if self.behaviour.fractions == "none" else stored

    def _sort_key(self, name: str, index: int) -> tuple[int, float, str]:
        value = next((item for key, item in self.population.record(index).items() if key.lower() == name), None)
        if isinstance(value, int | float):
            return 1, float(value), ""
        return (0, 0.0, "") if value is None else (2, 0.0, str(value))

    # -- how they look

    def _shown(self, index: int, asked: tuple[str, ...]) -> dict[str, Any]:
        behaviour = self.behaviour
        record = {key: value for key, value in self.population.record(index).items() if not key.startswith("_")}
        if "Date" in record:
            record["Date"] = self._date(self.population.times[index])
        if asked:
            known = {key.lower(): key for key in record}
            chosen = {name: record[known[name.lower()]] for name in asked if name.lower() in known}
        else:
            chosen = record
        spell = self._spelling(bool(asked))
        return {spell(key): _dressed(key, value, behaviour) for key, value in chosen.items() if _kept(value, behaviour)}

    def _spelling(self, asked: bool) -> Callable[[str], str]:
        casing = self.behaviour.casing
        if casing == "lower" or (casing == "as_asked" and not asked):
            return str.lower
        if casing == "mixed":
            return lambda key: key if len(key) % 2 else key.lower()
        return str

    def _date(self, stored: int) -> str:
        fractions = self.behaviour.fractions
        second, rest = divmod(stored, 1000)
        second += int((fractions == "round" and rest >= 500) or (fractions == "ceil" and rest > 0))
        moment = EPOCH + timedelta(seconds=second)
        fraction = f".{rest:03}" if fractions == "shown" and rest else ""
        match self.behaviour.dates:
            case "space":
                return f"{moment:%Y-%m-%d %H:%M:%S}{fraction}"
            case "iso_naive":
                return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}"
            case "offset":
                return f"{moment + timedelta(hours=3):%Y-%m-%dT%H:%M:%S}{fraction}+03:00"
        return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def _edge(times: Sequence[int], edge: int, grain: int, *, after: bool) -> int:
    """Where the rows of a whole second begin, or end."""
    floor = edge // grain * grain
    return bisect_left(times, floor + grain if after else floor)


def _kept(value: Any, behaviour: Behaviour) -> bool:
    return not (behaviour.empties == "absent" and value == "")


def _dressed(key: str, value: Any, behaviour: Behaviour) -> Any:
    if value == "" and behaviour.empties == "null":
        return None
    if behaviour.numbers == "text" and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if key == "DTMFData" and isinstance(value, list):
        if behaviour.dtmf == "text":
            return json.dumps(value, ensure_ascii=False)
        return {str(n): step for n, step in enumerate(value)} if behaviour.dtmf == "object" else value
    if key == "CustomData" and isinstance(value, dict):
        if behaviour.custom == "text":
            return json.dumps(value, ensure_ascii=False)
        return [{name: item} for name, item in value.items()] if behaviour.custom == "array" else value
    return value


class _Reply:
    """Writes one answer."""

    def __init__(self, behaviour: Behaviour, send: Send, accepts_gzip: bool) -> None:
        self._behaviour = behaviour
        self._send = send
        self._gzip = behaviour.gzip and accepts_gzip

    async def plain(self, status: int, body: bytes, content_type: str) -> None:
        await self._write(status, [body], Fault(content_type=content_type))

    async def error(self, number: int, address: str, fault: Fault) -> None:
        status = _STATUSES.get(number, 403)
        text = _DESCRIPTIONS.get(number, "Unknown error.").format(address=address)
        body = self._envelope({"ERROR_NUMBER": number, "ERROR_DESCRIPTION": text, "STATUS_CODE": status})
        if number == 1 and self._behaviour.retry_after is not None:
            fault = attrs.evolve(fault, headers={**fault.headers, "retry-after": self._behaviour.retry_after})
        await self._write(200 if self._behaviour.error_status == "ok" else status, [body], fault)

    async def rows(self, rows: Iterable[dict[str, Any]], count: int, total: int, fault: Fault) -> None:
        pieces = await self._pieces(rows, count, total, fault)
        await self._write(200, pieces, fault)

    async def _pieces(self, rows: Iterable[dict[str, Any]], count: int, total: int, fault: Fault) -> list[bytes]:
        head: dict[str, Any] = {"ERROR_NUMBER": 0, "ERROR_DESCRIPTION": "OK", "STATUS_CODE": 200}
        told = self._behaviour.totals
        if told != "missing":
            shown = min(total, self._behaviour.cap) if told == "capped" else total
            head["TOTAL_HITS"] = str(shown) if told == "text" else None if told == "null" else shown
        head["RETURN_HITS"] = count - fault.lose_rows if fault.return_hits is None else fault.return_hits
        if fault.cdr_list != "right" or (count == 0 and self._behaviour.list_when_empty != "list"):
            kind = fault.cdr_list if fault.cdr_list != "right" else self._behaviour.list_when_empty
            return [self._envelope(head | {"missing": {}, "null": {"CDR_LIST": None}}.get(kind, {"CDR_LIST": {}}))]
        pieces = [self._envelope(head | {"CDR_LIST": []})[:-2]]
        slice_: list[str] = []
        for place, row in enumerate(rows):
            if place < count - fault.lose_rows:
                broken = row | {key: {"broken": True} for key in row} if place == fault.bad_row else row
                slice_.append(("," if place else "") + json.dumps(broken, ensure_ascii=False, separators=(",", ":")))
            if len(slice_) >= _SLICE:
                pieces.append("".join(slice_).encode())
                slice_.clear()
                await asyncio.sleep(0)
        late = "" if fault.late_error is None else f',"{self._key("ERROR_NUMBER")}":{fault.late_error}'
        pieces.append(("".join(slice_) + "]" + late + "}").encode())
        return pieces

    def _key(self, name: str) -> str:
        spelling = self._behaviour.envelope
        return (
            name.replace("_", " ")
            if spelling == "spaces" and name != "CDR_LIST"
            else (name.lower() if spelling == "lower" else name)
        )

    def _envelope(self, items: Mapping[str, Any]) -> bytes:
        spelled = {self._key(name): value for name, value in items.items()}
        return json.dumps(spelled, ensure_ascii=False, separators=(",", ":")).encode()

    async def _write(self, status: int, pieces: list[bytes], fault: Fault) -> None:
        pieces = pieces if fault.body is None else [fault.body]
        headers = {"content-type": fault.content_type, **fault.headers}
        if self._gzip or fault.damage_gzip:
            packed = gzip.compress(b"".join(pieces), 1)
            middle = len(packed) // 2
            pieces = [packed[:middle] + b"\0damage\0" + packed[middle + 8 :]] if fault.damage_gzip else [packed]
            headers["content-encoding"] = "gzip"
        whole = sum(map(len, pieces))
        if fault.cut_at is not None:
            pieces = [b"".join(pieces)[: fault.cut_at]]
        if fault.cut_at is None or fault.tell_length:
            headers["content-length"] = str(whole)
        encoded = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers.items()]
        await self._send({"type": "http.response.start", "status": fault.status or status, "headers": encoded})
        for piece in pieces:
            for part in [piece[n : n + 1] for n in range(len(piece))] if fault.drip else [piece]:
                await self._send({"type": "http.response.body", "body": part, "more_body": True})
                await asyncio.sleep(fault.drip)
        if fault.cut_at is not None and fault.tell_length:
            raise ConnectionDroppedError("the service broke the connection in the middle")
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
