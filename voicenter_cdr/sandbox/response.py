"""Writing of one response: the envelope, its rows a slice at a time, and the effect of a fault on them."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

import attrs

from voicenter_cdr.sandbox.behaviour import Behaviour
from voicenter_cdr.sandbox.faults import ConnectionDroppedError, Fault

__all__ = ["ResponseWriter", "Send"]

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_DESCRIPTIONS = {
    0: "OK",
    1: "Request limit exceeded. Please try again later.",
    2: "Authorization failed.",
    4: "IP address {address} is not trusted.",
    5: "Out of range",
}

_STATUSES = {0: 200, 1: 403, 2: 403, 4: 403, 5: 404}

_SLICE = 250

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class ResponseWriter:
    """Writer of one response."""

    def __init__(self, behaviour: Behaviour, send: Send, *, accepts_gzip: bool) -> None:
        self._behaviour = behaviour
        self._send = send
        self._gzip = behaviour.gzip and accepts_gzip

    async def plain(
        self, status: int, body: bytes, content_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a response that is not the API's."""
        await self._write(status, [body], Fault(content_type=content_type, headers=headers or {}))

    async def error(self, number: int, address: str, fault: Fault) -> None:
        """Send an error number, with its documented description and status."""
        status = _STATUSES.get(number, 403)
        text = _DESCRIPTIONS.get(number, "Unknown error.").format(address=address)
        body = self._encode_envelope({"ERROR_NUMBER": number, "ERROR_DESCRIPTION": text, "STATUS_CODE": status})
        if number == 1 and self._behaviour.retry_after is not None:
            fault = attrs.evolve(fault, headers={**fault.headers, "retry-after": self._behaviour.retry_after})
        await self._write(status if self._behaviour.error_status == "documented" else 200, [body], fault)

    async def rows(self, show: Callable[[int], dict[str, Any]], rows: Sequence[int], total: int, fault: Fault) -> None:
        """Send the rows, by their index, each as ``show`` renders it."""
        rows = rows[: max(0, len(rows) - fault.lose_rows)]
        extra = int(fault.extra_row is not None)
        head = self._make_head(len(rows) + extra, total + extra, fault)
        instead = fault.cdr_list
        if instead == "right" and not rows and not extra and self._behaviour.list_when_empty != "list":
            instead = self._behaviour.list_when_empty
        if instead != "right":
            more: dict[str, dict[str, Any]] = {"missing": {}, "null": {"CDR_LIST": None}, "object": {"CDR_LIST": {}}}
            await self._write(200, [self._encode_envelope(head | more[instead])], fault)
            return
        pieces = [self._encode_envelope(head | {"CDR_LIST": []})[:-2], *await self._encode_rows(show, rows, fault)]
        late = "" if fault.late_error is None else f',"{self._spell_key("ERROR_NUMBER")}":{fault.late_error}'
        await self._write(200, [*pieces, f"]{late}}}".encode()], fault)

    def _make_head(self, count: int, total: int, fault: Fault) -> dict[str, Any]:
        head: dict[str, Any] = {"ERROR_NUMBER": 0, "ERROR_DESCRIPTION": "OK", "STATUS_CODE": 200}
        totals = self._behaviour.totals
        if totals != "missing":
            shown = min(total, self._behaviour.cap) if totals == "capped" else total
            head["TOTAL_HITS"] = {"text": str(shown), "null": None}.get(totals, shown)
        head["RETURN_HITS"] = count if fault.return_hits is None else fault.return_hits
        return head

    async def _encode_rows(
        self, show: Callable[[int], dict[str, Any]], rows: Sequence[int], fault: Fault
    ) -> list[bytes]:
        bad, extra = fault.bad_row, fault.extra_row
        pieces: list[bytes] = []
        for start in range(0, len(rows), _SLICE):
            shown = [show(index) for index in rows[start : start + _SLICE]]
            if bad is not None and start <= bad < start + len(shown):
                shown[bad - start] = _break_row(shown[bad - start])
            if extra is not None and start <= extra < start + len(shown):
                shown.insert(extra - start, _break_row(shown[extra - start]))
            pieces.append((b"," if start else b"") + _encode(shown)[1:-1].encode("utf-8", "backslashreplace"))
            await asyncio.sleep(0)
        if extra is not None and extra >= len(rows):
            pieces.append((b"," if rows else b"") + _encode(_break_row({"CallID": "", "Date": ""})).encode())
        return pieces

    def _spell_key(self, name: str) -> str:
        spelling = self._behaviour.envelope
        if spelling == "spaces" and name != "CDR_LIST":
            return name.replace("_", " ")
        return name.lower() if spelling == "lower" else name

    def _encode_envelope(self, items: Mapping[str, Any]) -> bytes:
        return _encode({self._spell_key(name): value for name, value in items.items()}).encode()

    # -- bytes

    async def _write(self, status: int, pieces: list[bytes], fault: Fault) -> None:
        pieces = pieces if fault.body is None else [fault.body]
        headers = {"content-type": fault.content_type, **fault.headers}
        if self._gzip or fault.damage_gzip:
            pieces = await _compress(pieces)
            headers["content-encoding"] = "gzip"
        if fault.damage_gzip:
            whole = b"".join(pieces)
            middle = len(whole) // 2
            pieces = [whole[:middle] + b"\0damage\0" + whole[middle + 8 :]]
        breaks = fault.cut_at is not None and (fault.tell_length or fault.hang_up)
        if fault.cut_at is None or fault.tell_length:
            headers["content-length"] = str(sum(map(len, pieces)))
        if fault.cut_at is not None:
            pieces = [b"".join(pieces)[: fault.cut_at]]
        encoded = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers.items()]
        await self._send({"type": "http.response.start", "status": fault.status or status, "headers": encoded})
        for piece in _split_to_drip(pieces, fault):
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(fault.drip)
        if breaks:
            raise ConnectionDroppedError("the service broke the connection in the middle")
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def _break_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of which no value can be read."""
    return {key: {"broken": True} for key in row}


async def _compress(pieces: list[bytes]) -> list[bytes]:
    pack = zlib.compressobj(1, zlib.DEFLATED, 31)  # 31: with the frame of gzip
    packed = []
    for piece in pieces:
        packed.append(pack.compress(piece))
        await asyncio.sleep(0)
    packed.append(pack.flush())
    return [piece for piece in packed if piece]


def _split_to_drip(pieces: list[bytes], fault: Fault) -> list[bytes]:
    if not fault.drip:
        return pieces
    size = fault.drip_bytes
    return [piece[start : start + size] for piece in pieces for start in range(0, len(piece), size)]
