"""Decoding of responses: envelope, errors, and the list of records."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from attrs import field, frozen

from voicenter_cdr.core.protocol.redaction import _ADDRESS, _LONG_DIGITS, _masked, _spellings
from voicenter_cdr.core.protocol.rows import RecordDecoder
from voicenter_cdr.core.protocol.values import _UnreadableError, _whole
from voicenter_cdr.errors import (
    ApiError,
    AuthenticationError,
    DecodeError,
    OutOfRangeError,
    Problem,
    RateLimitError,
    ServerError,
    UntrustedAddressError,
)
from voicenter_cdr.models import Cdr, ErrorNumber, InvalidRecord

__all__ = ["ApiResponse", "ResponseDecoder", "decode"]


@frozen(kw_only=True)
class ApiResponse:
    """One understood answer."""

    rows: tuple[Cdr | InvalidRecord, ...] = field(repr=False)
    """Everything that came, in the order of the answer."""
    seconds: tuple[int | None, ...] = field(repr=False)
    """The own second (since 1970, UTC) of every row; ``None`` where it can't be told."""
    total_hits: int | None
    """TOTAL_HITS, where told."""
    return_hits: int | None
    """RETURN_HITS, where told."""

    @property
    def records(self) -> tuple[Cdr, ...]:
        """The readable rows."""
        return tuple(row for row in self.rows if isinstance(row, Cdr))

    @property
    def invalid(self) -> tuple[InvalidRecord, ...]:
        """The unreadable rows."""
        return tuple(row for row in self.rows if isinstance(row, InvalidRecord))


_LIST: Final = re.compile(rb'"cdr[_ ]?list"\s*:\s*\[', re.IGNORECASE)

_HEAD_LIMIT: Final = 65_536
"""Where the list of records has to begin, or else the answer is read whole."""

_UNREAD_LIMIT: Final = 1_048_576
"""How much may lie unread: the service's records are a thousandth of it, and a few packed bytes can hold much more."""

_COMMA: Final = ord(",")

_BLANK: Final = re.compile(r"[ \n\r\t]+")

Loads = Callable[[bytes], Any]
"""A JSON parser: ``json.loads``, or a faster one such as ``orjson.loads``."""


class ResponseDecoder:
    """Reads one answer while its bytes arrive, a slice at a time; nothing is handed over before :meth:`finish`.

    Rows are structured as soon as they are whole and their JSON is dropped at once, so that neither the bytes nor the
    parsed form of a page are ever held together. A slice is cut where a row seems to begin, and accepted only if it
    parses by itself: then the cut was between two rows.
    """

    def __init__(
        self,
        *,
        status: int = 200,
        content_type: str | None = None,
        retry_after: float | None = None,
        reader: RecordDecoder | None = None,
        secret: str = "",
        loads: Loads = json.loads,
    ) -> None:
        self._status = status
        self._secret = _spellings(secret)
        self._content_type = None if content_type is None else self._redact(content_type)
        self._retry_after = retry_after
        self._loads = loads
        self._reader = reader or RecordDecoder()
        self._buffer = bytearray()
        self._head: dict[str, Any] | None = None
        self._whole = False
        self._border = b""
        self._rows: list[Cdr | InvalidRecord] = []
        self._seconds: list[int | None] = []

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body.

        Raises what :meth:`finish` would as soon as they can't become an answer, however many follow.
        """
        self._buffer += chunk
        if 200 <= self._status < 300 and not self._whole and (self._head is not None or self._open()):
            self._cut()
        if len(self._buffer) > _UNREAD_LIMIT:
            raise self._endless()

    def finish(self) -> ApiResponse:
        """The answer, once its last byte was fed.

        Raises :class:`ApiError` (the subclass its number or status says) or :class:`DecodeError`.
        """
        envelope = self._close() if self._head is not None else self._parse_whole()
        if envelope is None:
            raise self._not_json()
        self._check(envelope)
        rows = envelope.get("cdrlist")
        total, returned = self._count(envelope, "totalhits"), self._count(envelope, "returnhits")
        if self._head is None:
            if not isinstance(rows, list):
                if rows is not None or total != 0 or "errornumber" not in envelope:
                    raise self._no_list()
                rows = []
            self._reader.read_into(rows, self._rows, self._seconds)
        if not self._seconds and total is None and "errornumber" not in envelope:
            raise DecodeError(
                "An empty list without error number and total tells nothing",
                problems=[Problem("$.ERROR_NUMBER", "a whole number")],
                status=self._status,
                hint="The service answered in a form that is not known; report it.",
            )
        return ApiResponse(rows=tuple(self._rows), seconds=tuple(self._seconds), total_hits=total, return_hits=returned)

    # -- the stream

    def _open(self) -> bool:
        """Find where the list of records begins, and prove it to be the envelope's own."""
        found = _LIST.search(self._buffer, 0, _HEAD_LIMIT)
        if found is None:
            self._whole = len(self._buffer) >= _HEAD_LIMIT
            return False
        head = _object(_strip(bytes(self._buffer[: found.end()])) + b"]}")
        if head is None or head.get("cdrlist") != []:
            self._whole = True
            return False
        self._head = head
        del self._buffer[: found.end()]
        return True

    def _cut(self) -> None:
        """Structure the rows that are whole, as far as one cut reaches."""
        if not self._border:
            self._border = bytes(self._buffer[: max(0, self._buffer.find(b":"))]).strip()
        at = self._buffer.rfind(self._border) if self._border[:1] == b"{" else -1
        if at > 0:
            rows = self._slice(at)
            if rows is not None:
                self._reader.read_into(rows, self._rows, self._seconds)
                del self._buffer[:at]
                return
        if len(self._buffer) > _HEAD_LIMIT:
            self._walk()

    def _slice(self, at: int) -> list[Any] | None:
        end = at - 1
        while end > 0 and self._buffer[end] in b" \t\r\n":
            end -= 1
        if self._buffer[end] != _COMMA:
            return None
        with memoryview(self._buffer) as whole, whole[:end] as rows_only:
            piece = b"".join((b"[", rows_only, b"]"))
        try:
            rows = self._loads(piece)
        except (ValueError, RecursionError):
            return None
        return rows if isinstance(rows, list) else None

    def _walk(self) -> bytes | None:
        """Structure row by row. Returns what stands behind the end of the list, or ``None`` where that has not come."""
        text, at, rows = self._buffer.decode("utf-8", "ignore"), 0, list[Any]()
        scan = json.JSONDecoder().raw_decode
        done, tail = 0, None
        first = not self._seconds
        while True:
            at = _skip(text, at)
            if text[at : at + 1] == "]" and (first or not rows or text[done:at].strip() == ""):
                tail = text[at + 1 :].encode()
                break
            try:
                row, at = scan(text, at)
            except (ValueError, RecursionError):
                break
            after = _skip(text, at)
            if text[after : after + 1] not in (",", "]"):
                break
            rows.append(row)
            at = after + 1 if text[after] == "," else after
            done = at
        del self._buffer[: len(text[:done].encode())]
        self._reader.read_into(rows, self._rows, self._seconds)
        return tail

    def _close(self) -> dict[str, Any] | None:
        tail = self._walk() if _utf8(self._buffer) else None
        late = None if tail is None else _object(b'{"CDR_LIST":[]' + tail.strip())
        if late is None or late.get("cdrlist") != []:  # a second list is not understood
            return None
        return {**late, **(self._head or {}), **_errors(late)}

    # -- the envelope

    def _parse_whole(self) -> dict[str, Any] | None:
        return _object(_strip(bytes(self._buffer)))

    def _check(self, envelope: dict[str, Any]) -> None:
        number = self._count(envelope, "errornumber")
        if number:
            raise self._api_error(number, envelope)
        if not 200 <= self._status < 300:
            raise self._api_error(None, envelope)

    def _count(self, envelope: dict[str, Any], name: str) -> int | None:
        try:
            return _whole(envelope.get(name))
        except _UnreadableError as unreadable:
            raise DecodeError(
                "The answer's envelope can't be read",
                problems=[Problem(f"$.{_ENVELOPE[name]}", str(unreadable))],
                status=self._status,
                hint="The service answered in a form that is not known; report it.",
            ) from None

    def _api_error(self, number: int | None, envelope: dict[str, Any]) -> ApiError:
        told = envelope.get("errordescription")
        description = self._redact(told) if isinstance(told, str) else ""
        status = self._status
        match number:
            case ErrorNumber.RATE_LIMIT:
                return RateLimitError(number, description, status, retry_after=self._retry_after)
            case ErrorNumber.AUTHORIZATION_FAILED:
                return AuthenticationError(number, description, status)
            case ErrorNumber.UNTRUSTED_ADDRESS:
                address = _ADDRESS.search(description)
                seen = address.group() if address else None
                return UntrustedAddressError(number, description, status, address=seen)
            case ErrorNumber.OUT_OF_RANGE:
                return OutOfRangeError(number, description, status)
        if status >= 500:
            return ServerError(number, description, status, retry_after=self._retry_after)
        if number is None and status == 429:
            return RateLimitError(None, description, status, retry_after=self._retry_after)
        if number is None and status in (401, 403):
            return AuthenticationError(None, description, status)
        if number is None and status == 404:
            return ApiError(
                None, "there is no such page", status, hint="Check base_url; the API's ends with /hub/cdr/."
            )
        if number is None and 300 <= status < 400:
            return ApiError(None, "it sends elsewhere", status, hint="Set base_url to the service's own address.")
        return ApiError(number, description, status)

    def _no_list(self) -> DecodeError:
        return DecodeError(
            "The answer holds no list of records",
            problems=[Problem("$.CDR_LIST", "an array")],
            status=self._status,
            content_type=self._content_type,
            hint="The service answered in a form that is not known; report it.",
        )

    def _endless(self) -> ApiError | DecodeError:
        """What an answer is of which too much came without a list of records, or without the end of one of these."""
        if self._head is not None:
            return DecodeError(
                "The answer holds a record without end",
                problems=[Problem(f"$.CDR_LIST[{len(self._rows)}]", f"a record of at most {_UNREAD_LIMIT:,} bytes")],
                status=self._status,
                content_type=self._content_type,
                hint="The service answered in a form that is not known; report it.",
            )
        return self._no_list() if self._begun and 200 <= self._status < 300 else self._not_json()

    @property
    def _begun(self) -> bool:
        """Whether what came may be the beginning of an answer."""
        return self._head is not None or _strip(bytes(self._buffer[:64]))[:1] in (b"", b"{")

    def _not_json(self) -> ApiError | DecodeError:
        if not 200 <= self._status < 300:
            return self._api_error(None, {})
        size = len(self._buffer)
        kind = re.sub(r"[^\w/.+-].*", "", self._content_type or "") or "of no declared type"
        if self._begun:
            return DecodeError(
                "The answer broke off or is damaged",
                truncated=True,
                status=self._status,
                content_type=self._content_type,
                hint="Run it again; if it stays, a proxy on the way may be cutting large answers.",
            )
        return DecodeError(
            f"The answer is not JSON but {kind}, {size} bytes",
            status=self._status,
            content_type=self._content_type,
            hint="Check base_url, and whether a proxy or a login page stands in between.",
        )

    def _redact(self, text: str) -> str:
        text = "".join(c if c.isprintable() else " " for c in text)
        if self._secret is not None:
            text = self._secret.sub("…", text)
        return _LONG_DIGITS.sub(_masked, text)[:200]


_ENVELOPE: Final = {
    "errornumber": "ERROR_NUMBER",
    "totalhits": "TOTAL_HITS",
    "returnhits": "RETURN_HITS",
}


def _strip(data: bytes) -> bytes:
    return data.removeprefix(b"\xef\xbb\xbf").strip()


def _skip(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    return at if blank is None else blank.end()


def _utf8(data: bytearray) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _object(data: bytes) -> dict[str, Any] | None:
    """The JSON object in ``data`` with its keys folded (case, spaces and underscores do not count)."""
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(parsed, dict):
        return None
    return {re.sub(r"[\s_]", "", key).lower(): value for key, value in parsed.items()}


def _errors(late: dict[str, Any]) -> dict[str, Any]:
    """What an envelope says of errors behind the list: it counts more than what it said before."""
    return {name: late[name] for name in ("errornumber", "errordescription") if late.get(name)}


def decode(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    fields: Sequence[str] | None = None,
    secret: str = "",
    loads: Loads = json.loads,
) -> ApiResponse:
    """Read a whole answer: the :class:`Answer`, or a typed error, whatever the bytes are."""
    decoder = ResponseDecoder(
        status=status,
        content_type=headers.get("content-type"),
        reader=RecordDecoder(fields),
        secret=secret,
        loads=loads,
    )
    decoder.feed(body)
    return decoder.finish()
