"""Decoding of responses: the envelope, its errors, and the list of records."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import compress, islice
from typing import Any, Final

from attrs import field, frozen

from voicenter_cdr.core.protocol.json_stream import JsonArraySplitter, Loads, Members, parse_object
from voicenter_cdr.core.protocol.redaction import find_address, redact, secret_pattern
from voicenter_cdr.core.protocol.rows import DecodedRows, RecordDecoder
from voicenter_cdr.core.protocol.values import UnreadableError, decode_whole
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
from voicenter_cdr.models import Cdr, ErrorNumber, InvalidRecord, RecordTable
from voicenter_cdr.models.results import MAX_ROWS

__all__ = ["ApiResponse", "Loads", "ResponseDecoder", "decode"]


@frozen(kw_only=True)
class ApiResponse:
    """One decoded response: its readable rows as a table, the unreadable ones by their place among all rows."""

    records: RecordTable = field(repr=False)
    """The readable rows, in the order of the response."""
    unreadable: Mapping[int, InvalidRecord] = field(repr=False)
    """The other rows, by their place among all rows."""
    seconds: tuple[int | None, ...] = field(repr=False)
    """The second (since 1970, UTC) of every row, readable or not; ``None`` if it is unknown."""
    total_hits: int | None
    """TOTAL_HITS; ``None`` if the service sent none, or an impossible one."""
    return_hits: int | None
    """RETURN_HITS, likewise."""

    @property
    def row_count(self) -> int:
        """Rows of the response, the unreadable ones included."""
        return len(self.seconds)

    @property
    def rows(self) -> tuple[Cdr | InvalidRecord, ...]:
        """All rows, in the order of the response; makes every record."""
        records = iter(self.records)
        return tuple([self.unreadable.get(place) or next(records) for place in range(len(self.seconds))])

    @property
    def invalid(self) -> tuple[InvalidRecord, ...]:
        """The unreadable rows."""
        return tuple(self.unreadable.values())

    def between(self, start: int, stop: int) -> tuple[RecordTable, tuple[InvalidRecord, ...]]:
        """Return the readable and the unreadable rows with ``start <= second < stop``, or without a known second."""
        kept = [second is None or start <= second < stop for second in self.seconds]
        invalid = tuple([row for place, row in self.unreadable.items() if kept[place]])
        if self.unreadable:
            kept = list(compress(kept, [place not in self.unreadable for place in range(len(kept))]))
        rest = iter(kept)
        return RecordTable([batch.where(islice(rest, len(batch))) for batch in self.records.batches]), invalid


_LIST_KEY: Final = re.compile(rb'"cdr[_ ]?list"\s*:\s*\[', re.IGNORECASE)

_MAX_UNREAD: Final = 1_048_576
"""Bytes of one row, or of a response without rows: a real record has about 700, and few packed bytes can hold many."""

_MAX_BYTES: Final = 134_217_728
"""Bytes of a response, unpacked: a page of 10,000 real records has about 7 million."""

_MAX_COUNT: Final = 10**10
"""Largest count that is accepted. A century of a call a second is a third of it; anything above is an overflow."""

_MAX_ERROR_NUMBER: Final = 999_999
"""Largest number that is accepted as an error number; the API document's have one digit."""

_MAX_NON_OBJECTS: Final = 1_000
"""Rows that are no objects, or empty ones, in a response. They have no time, so that no shorter period shows fewer of
them: a planner that was handed a page of them would ask for it again and again."""

_UNKNOWN_FORM: Final = "The service answered in a form that is not known; report it."


class ResponseDecoder:
    """Decode one response while its bytes arrive; nothing is returned before :meth:`finish`.

    Rows are decoded as soon as they are complete and their JSON is dropped at once. For any body, memory is bounded by
    ``max_rows`` records and 128 MiB of body, and time is linear in the bytes.
    """

    def __init__(
        self,
        *,
        status: int = 200,
        content_type: str | None = None,
        retry_after: float | None = None,
        record_decoder: RecordDecoder | None = None,
        secret: str = "",
        loads: Loads = json.loads,
        max_rows: int = MAX_ROWS,
    ) -> None:
        self._status = status
        self._secret = secret_pattern(secret)
        self._content_type = None if content_type is None else redact(content_type, self._secret)
        self._retry_after = retry_after
        self._record_decoder = record_decoder or RecordDecoder()
        self._max_rows = max_rows
        self._is_success = 200 <= status < 300
        self._splitter = JsonArraySplitter(_LIST_KEY, max_unread=_MAX_UNREAD, loads=loads)
        self._rows = DecodedRows()
        self._non_objects = 0
        self._bytes = 0
        self._refused = bytearray()
        """The body of a response whose status is an error: read as a whole, since it is short or empty."""

    def feed(self, chunk: bytes) -> None:
        """Feed the next bytes of the body.

        Raises what :meth:`finish` would as soon as they can't become a response, however many follow.
        """
        self._bytes += len(chunk)
        if not self._is_success:
            self._refused += chunk
            if len(self._refused) > _MAX_UNREAD:
                raise self._not_json()
            return
        # Rows first: the bytes that are left after them have a bound of their own.
        self._decode(self._splitter.feed(chunk))
        if self._splitter.unread > _MAX_UNREAD:
            raise self._too_long()
        if self._bytes > _MAX_BYTES:
            raise self._too_large(f"at most {_MAX_BYTES:,} bytes")

    def finish(self) -> ApiResponse:
        """Return the response, once the last byte was fed.

        Raises :class:`ApiError` (the subclass its number or status says) or :class:`DecodeError`.
        """
        envelope = self._envelope()
        if envelope is None:
            raise self._not_json()
        number = self._error_number(envelope)
        if number or not self._is_success:
            raise self._api_error(number or None, envelope)
        total, returned = self._count(envelope, "TOTAL_HITS"), self._count(envelope, "RETURN_HITS")
        if self._splitter.head is None:
            self._decode(self._whole_list(envelope, total))
        # Otherwise the empty object of a proxy would count as a period without calls.
        if not self._rows and total is None and "errornumber" not in envelope:
            text = "An empty list without error number and total proves nothing"
            raise self._decode_error(text, Problem("$.ERROR_NUMBER", "a whole number"))
        return ApiResponse(
            records=self._rows.table(),
            unreadable=self._rows.unreadable,
            seconds=tuple(self._rows.seconds),
            total_hits=total,
            return_hits=returned,
        )

    def _decode(self, rows: Sequence[Any]) -> None:
        # Refused before they are decoded, so that time has a bound as well.
        if len(self._rows) + len(rows) > self._max_rows:
            raise self._too_large(f"at most {self._max_rows:,} records")
        self._non_objects += len([row for row in rows if not row or not isinstance(row, dict)])
        if self._non_objects > _MAX_NON_OBJECTS:
            text = f"The response's list holds more than {_MAX_NON_OBJECTS:,} rows that are no records"
            raise self._decode_error(text, Problem("$.CDR_LIST", "an array of objects"))
        self._record_decoder.decode(rows, self._rows)

    # -- the envelope

    def _envelope(self) -> dict[str, Any] | None:
        """Decode the last rows, and return the envelope by folded names; ``None`` if it is unreadable."""
        if not self._is_success:
            members = parse_object(bytes(self._refused))
            return None if members is None else _fold(members)
        rows, members = self._splitter.finish()
        if members is None:
            return None
        self._decode(rows)
        return _fold([*(self._splitter.head or ()), *members])

    def _whole_list(self, envelope: dict[str, Any], total: int | None) -> list[Any]:
        """Return the rows of a response that was not split."""
        rows = envelope.get("cdrlist")
        if isinstance(rows, list):
            return rows
        # A missing list is accepted for an empty period only, and only from the service itself.
        if rows is not None or total != 0 or "errornumber" not in envelope:
            raise self._no_list()
        return []

    def _error_number(self, envelope: dict[str, Any]) -> int | None:
        try:
            number = self._whole(envelope, "ERROR_NUMBER")
            if number is None or abs(number) <= _MAX_ERROR_NUMBER:
                return number
            raise self._unreadable("ERROR_NUMBER", f"a number up to {_MAX_ERROR_NUMBER:,}")  # a phone number, perhaps
        except DecodeError:
            if self._is_success:
                raise
            return None  # the status decides

    def _count(self, envelope: dict[str, Any], name: str) -> int | None:
        count = self._whole(envelope, name)
        # An impossible count is ignored: completeness is then proven without it.
        return count if count is not None and 0 <= count <= _MAX_COUNT else None

    def _whole(self, envelope: dict[str, Any], name: str) -> int | None:
        try:
            return decode_whole(envelope.get(_fold_name(name)))
        except UnreadableError as error:
            raise self._unreadable(name, str(error)) from None

    def _api_error(self, number: int | None, envelope: dict[str, Any]) -> ApiError:
        description_sent = envelope.get("errordescription")
        description = redact(description_sent, self._secret) if isinstance(description_sent, str) else ""
        status, retry_after = self._status, self._retry_after
        # The number decides if there is one, since several errors share the status 403.
        match number, status:
            case (ErrorNumber.RATE_LIMIT, _) | (None, 429):
                return RateLimitError(number, description, status, retry_after=retry_after)
            case (ErrorNumber.AUTHORIZATION_FAILED, _) | (None, 401 | 403):
                return AuthenticationError(number, description, status)
            case (ErrorNumber.UNTRUSTED_ADDRESS, _):
                return UntrustedAddressError(number, description, status, address=find_address(description))
            case (ErrorNumber.OUT_OF_RANGE, _):
                return OutOfRangeError(number, description, status)
            case (None, 404):
                hint = "Check base_url; the API's ends with /hub/cdr/."
                return ApiError(None, "there is no such page", status, hint=hint)
        if status >= 500:
            return ServerError(number, description, status, retry_after=retry_after)
        if number is None and 300 <= status < 400:
            return ApiError(None, "it sends elsewhere", status, hint="Set base_url to the service's own address.")
        return ApiError(number, description, status)

    def _decode_error(self, text: str, *problems: Problem, hint: str = _UNKNOWN_FORM, **more: Any) -> DecodeError:
        status, content_type = self._status, self._content_type
        return DecodeError(text, problems=problems, status=status, content_type=content_type, hint=hint, **more)

    def _unreadable(self, name: str, expected: str) -> DecodeError:
        return self._decode_error("The response's envelope can't be read", Problem(f"$.{name}", expected))

    def _no_list(self) -> DecodeError:
        return self._decode_error("The response holds no list of records", Problem("$.CDR_LIST", "an array"))

    def _too_long(self) -> ApiError | DecodeError:
        """Return the error of a response that is too long without a list, or without the end of a row."""
        if self._splitter.head is not None:
            bound = f"a record of at most {_MAX_UNREAD:,} bytes"
            return self._too_large(bound, "The response holds a record without end")
        return self._no_list() if self._splitter.begins_like_json else self._not_json()

    def _too_large(self, expected: str, text: str = "The response does not end") -> DecodeError:
        return self._decode_error(text, Problem(f"$.CDR_LIST[{len(self._rows)}]", expected))

    def _not_json(self) -> ApiError | DecodeError:
        if not self._is_success:
            # The number of a truncated refusal still counts: error 1 is transient, and its status alone says otherwise.
            found = _ERROR_NUMBER.match(self._refused, 0, _NUMBER_LIMIT)
            return self._api_error((int(found[1]) or None) if found else None, {})
        kind = re.sub(r"[^\w/.+-].*", "", self._content_type or "") or "of no declared type"
        if self._splitter.begins_like_json:
            hint = "Run it again; if it persists, a proxy may be cutting large responses."
            return self._decode_error("The response is incomplete or damaged", truncated=True, hint=hint)
        hint = "Check base_url, and whether a proxy or a login page answers in its place."
        return self._decode_error(f"The response is no JSON object but {kind}, {self._bytes} bytes", hint=hint)


_NUMBER_LIMIT: Final = 4_096
"""Bytes of a damaged refusal in which its number is sought."""

_ERROR_NUMBER: Final = re.compile(
    rb'\s*\{(?:\s*"[^"\\]*"\s*:\s*(?:"[^"\\]*"|[\w.+-]+)\s*,)*?\s*"error[_ ]?number"\s*:\s*"?(\d{1,6})\b', re.IGNORECASE
)
"""The error number among the first plain members of an envelope, whatever becomes of what follows."""


_NO_ERROR: Final = (None, "", 0, "0")


def _fold_name(name: str) -> str:
    """Return a member's name without case, blanks and underscores, in which real responses differ."""
    return re.sub(r"[\s_]", "", name).lower()


def _fold(members: Members) -> dict[str, Any] | None:
    """Return the envelope by folded names; ``None`` where it is unknown which of two lists counts.

    Of two values the first counts, but an error counts in any case: it may occur while the service writes the list.
    """
    folded: dict[str, Any] = {}
    for name, value in ((_fold_name(name), value) for name, value in members):
        earlier = folded.setdefault(name, value)
        if earlier is value:
            continue
        if name == "cdrlist" and (earlier or value):
            return None
        if name in ("errornumber", "errordescription") and value not in _NO_ERROR:
            folded[name] = value
    return folded


def decode(
    status: int, headers: Mapping[str, str], body: bytes, *, fields: Sequence[str] | None = None, **options: Any
) -> ApiResponse:
    """Return a complete response, or raise a typed error, for any bytes. ``options``: as of the decoder."""
    options = {"content_type": headers.get("content-type"), "record_decoder": RecordDecoder(fields)} | options
    decoder = ResponseDecoder(status=status, **options)
    decoder.feed(body)
    return decoder.finish()
