"""Incremental reading of a JSON object that holds one long array: bytes in, rows out, a slice at a time.

Neither the bytes nor the parsed form of the whole document are ever held together. A slice is cut where a row seems to
begin, and accepted only if it parses by itself: then the cut was between two rows, whatever they contain. Independent
of the content of rows. Pure.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable
from typing import Any, Final

__all__ = ["KEPT_LEVELS", "JsonArraySplitter", "Loads", "Members", "cut", "parse_object"]

Loads = Callable[[bytes], Any]
"""A JSON parser: ``json.loads``, or a faster one such as ``orjson.loads``."""

_HEAD_LIMIT: Final = 65_536
"""Bytes within which the array has to begin; otherwise the document is read as a whole."""

_MAX_TRIES: Final = 16
"""Places in the head that look like the array and are parsed to find out: each costs a parse of the head."""

_SLICE: Final = 65_536
"""Bytes from which on rows are sought one by one where no cut was found."""

_SHORT: Final = 4_096
"""Bytes that can be scanned repeatedly at little cost; a real row has about 700."""

_PREFIX: Final = 64
"""Bytes of a row's beginning that are looked for: a parse proves the cut, so that a part of the first key will do."""

_COMMA: Final = ord(",")

_BLANKS: Final = b" \t\r\n"

_BLANK: Final = re.compile(r"[ \n\r\t]*+")

_TOKEN: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"|"|[\[{]++|[\]}]++', re.DOTALL)
"""Tokens that decide where a row ends; a lone quote begins a text that has not ended yet."""

KEPT_LEVELS: Final = 128
"""Levels that are kept of a row that is nested too deep to be parsed: more than a value may have, so that the row is
unreadable in the same way whatever the parser, and however much Python's recursion limit leaves."""

_TO_SHAPE: Final = bytes.maketrans(b"123456789:,[ \t\r\n-", b"0" * 9 + b":" * 8)
_LONG_NUMBER: Final = b":" + b"0" * 16
"""A number of 16 digits or more, once the digits and what can stand before a number are made equal. (Text begins with a
quote.) Up to 15 digits every parser is exact; beyond 2^53 or 2^64 some round, and which do differs."""


def cut(value: Any, levels: int = KEPT_LEVELS) -> Any:
    """Return a JSON value whose objects and arrays below so many levels are empty."""
    if isinstance(value, dict):
        return {key: cut(item, levels - 1) for key, item in value.items()} if levels > 1 else {}
    if isinstance(value, list):
        return [cut(item, levels - 1) for item in value] if levels > 1 else []
    return value


def parse_int(digits: str) -> int | str:
    """Return a whole number; as text if it has more digits than Python converts (4,300 by default)."""
    try:
        return int(digits)
    except ValueError:
        return digits


_ROW_DECODER: Final = json.JSONDecoder(parse_int=parse_int)


Members = list[tuple[str, Any]]
"""Members of a JSON object in order; a name may occur twice."""


def parse_object(data: bytes) -> Members | None:
    """Return the members of the JSON object in ``data``; ``None`` if it is not one, or is nested too deep."""
    members: Members = []

    def make_object(pairs: Members) -> dict[str, Any]:
        nonlocal members
        members = pairs  # finally those of the outermost object, which is made last
        return dict(pairs)

    try:
        parsed = json.loads(_strip(data), parse_int=parse_int, object_pairs_hook=make_object)
    except (ValueError, RecursionError):
        return None
    return members if isinstance(parsed, dict) else None


class JsonArraySplitter:
    """Split a JSON object into the rows of one of its arrays and the members around it, while its bytes arrive.

    ``key`` finds the array's key, its colon and its bracket. The time taken is linear in the bytes fed. No row and no
    head can be longer than ``max_unread`` bytes: the caller gives up if :attr:`unread` is more after a :meth:`feed`.
    """

    def __init__(self, key: re.Pattern[bytes], *, max_unread: int, loads: Loads = json.loads) -> None:
        self._key = key
        self._max_unread = max_unread
        self._loads = loads
        self._buffer = bytearray()
        self._row_prefix = b""
        self._retry_at = 0
        self._searched = 0
        self._tries = _MAX_TRIES
        self._is_unsplit = False
        self._expects_row = False
        self.head: Members | None = None
        """Members before the array, which itself is empty here; ``None`` as long as the array has not begun."""

    @property
    def unread(self) -> int:
        """Bytes that were fed, but belong to no row that was returned, nor to the head."""
        return len(self._buffer)

    @property
    def begins_like_json(self) -> bool:
        """Return true if the bytes so far may be the beginning of an object."""
        return self.head is not None or _strip(bytes(self._buffer[:64]))[:1] in (b"", b"{")

    def feed(self, chunk: bytes) -> list[Any]:
        """Feed the next bytes. Return the rows that are now complete and were not returned before."""
        self._buffer += chunk
        if self._is_unsplit or (self.head is None and not self._find_array()) or len(self._buffer) < self._retry_at:
            return []
        rows = self._take_slice()
        if rows is None and len(self._buffer) > _SLICE:
            rows, _ = self._take_rows()
        # Where no row is complete, the next look is at twice as much: a row of a megabyte that arrives in small chunks
        # would otherwise be parsed hundreds of times.
        is_short = rows or len(self._buffer) < _SHORT
        self._retry_at = 0 if is_short else min(2 * len(self._buffer), self._max_unread)
        return rows or []

    def finish(self) -> tuple[list[Any], Members | None]:
        """Return the last rows, and the members after the array, once all bytes were fed.

        The members are ``None`` if the document is damaged or incomplete. If no array was found to split, there are no
        rows, and the members are those of the whole document.
        """
        if self.head is None:
            return [], parse_object(bytes(self._buffer))
        rows, tail = self._take_rows(is_last=True)
        return rows, None if tail is None else parse_object(b'{"":[]' + tail)

    def _find_array(self) -> bool:
        """Find the beginning of the array, and prove that it is the object's own."""
        while self._tries and (found := self._key.search(self._buffer, self._searched, _HEAD_LIMIT)):
            self._tries -= 1
            begin, end = found.span()
            del found  # it refers to the buffer, which is then shortened
            self.head = parse_object(bytes(self._buffer[:end]) + b"]}")
            if self.head is not None:
                del self._buffer[:end]
                return True
            self._searched = begin + 1  # it was within a text, or in another object
        self._is_unsplit = not self._tries or len(self._buffer) >= _HEAD_LIMIT
        return False

    def _take_slice(self) -> list[Any] | None:
        """Return the rows up to the last place where one seems to begin; ``None`` if that is not between two."""
        if not self._row_prefix:
            first_key = bytes(self._buffer[: max(0, self._buffer.find(b":"))]).strip()
            self._row_prefix = first_key[:_PREFIX]
        # Rows mostly begin with one key, so its last place is likely the beginning of one; the parser then proves it.
        cut = self._buffer.rfind(self._row_prefix) if self._row_prefix[:1] == b"{" else -1
        end = cut - 1
        while end > 0 and self._buffer[end] in _BLANKS:
            end -= 1
        if end < 1 or self._buffer[end] != _COMMA:
            return None
        # A view, since a copy of the buffer for each slice would double what a page needs.
        with memoryview(self._buffer) as whole, whole[:end] as rows_only:
            rows = self._parse(b"".join((b"[", rows_only, b"]")))
        if rows is not None:
            del self._buffer[:cut]
            self._expects_row = True
        return rows

    def _parse(self, data: bytes) -> list[Any] | None:
        loads = self._loads
        if loads is not json.loads and _LONG_NUMBER in data.translate(_TO_SHAPE):
            loads = json.loads
        try:
            parsed = loads(data)
        except Exception:  # parsers raise anything; the rows are then read one by one
            return None
        return parsed if isinstance(parsed, list) else None

    def _take_rows(self, *, is_last: bool = False) -> tuple[list[Any], bytes | None]:
        """Return the complete rows, found one by one, and the text after the array's end, once it has arrived."""
        try:
            text, _ = codecs.utf_8_decode(self._buffer, "surrogatepass", is_last)  # as json.loads decodes bytes
        except UnicodeDecodeError:
            return [], None
        at = done = 0
        rows: list[Any] = []
        tail: bytes | None = None
        while True:
            at = _skip(text, at)
            if text.startswith("]", at):
                # A comma before the end is invalid JSON: a row is missing there, or the document was edited.
                tail = None if self._expects_row else text[at + 1 :].encode("utf-8", "surrogatepass")
                break
            found = _parse_row(text, at)
            if found is None:
                break
            row, at = found
            end = _skip(text, at)
            if text[end : end + 1] not in (",", "]"):
                break
            rows.append(row)
            self._expects_row = text[end] == ","
            done = at = end + self._expects_row
        taken = text[:done].encode("utf-8", "surrogatepass")
        del self._buffer[: len(taken)]
        if rows and self._loads is not json.loads:
            # By the parser of all other slices, so that a value does not depend on its place in the document.
            rows = self._parse(b"[" + taken.rstrip(b"," + _BLANKS) + b"]") or rows
        return rows, tail


def _parse_row(text: str, at: int) -> tuple[Any, int] | None:
    """Return the row that begins here, and its end; ``None`` if it is damaged or not complete yet."""
    try:
        return _ROW_DECODER.raw_decode(text, at)
    except ValueError:
        return None
    except RecursionError:
        pass
    return _parse_deep_row(text, at)


def _parse_deep_row(text: str, at: int) -> tuple[Any, int] | None:
    """Parse a row, :func:`cut` to so many levels that parsers take it."""
    kept: list[str] = []
    depth, begin = 0, at
    for token in _TOKEN.finditer(text, at):
        mark, length = token[0][0], token.end() - token.start()
        if mark in "[{":
            if depth < KEPT_LEVELS <= depth + length:
                kept.append(text[begin : token.start() + KEPT_LEVELS - depth])
            depth += length
        elif mark in "]}":
            if depth - length < KEPT_LEVELS <= depth:
                begin = token.start() + depth - KEPT_LEVELS
            if length >= depth:
                end = token.start() + depth
                kept.append(text[begin:end])
                try:
                    return _ROW_DECODER.decode("".join(kept)), end
                except (ValueError, RecursionError):
                    return None
            depth -= length
        elif token[0] == '"':
            return None
    return None


def _strip(data: bytes) -> bytes:
    return data.removeprefix(codecs.BOM_UTF8).strip()


def _skip(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    return at if blank is None else blank.end()
