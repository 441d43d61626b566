"""Requests, parsed leniently: unreadable parts are left out, and lead to an error."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

from attrs import frozen

from voicenter_cdr.sandbox.population import EPOCH

__all__ = ["ParsedRequest", "parse_request"]

_LISTS = frozenset({"fields", "phones", "extensions", "cdrtypes", "campaignid", "queueid"})
_FILTERS = (_LISTS - {"fields"}) | {"callid", "identitycriteria"}


@frozen(kw_only=True)
class ParsedRequest:
    """A request, parsed."""

    code: str | None
    token: str | None
    first: float | None
    """``fromdate`` in seconds since 1970, read as UTC; ``None`` where it is none."""
    last: float | None
    """``todate``, likewise."""
    fields: tuple[str, ...]
    sort: tuple[tuple[str, str], ...]
    filters: Mapping[str, tuple[str, ...]]
    """Values that each filter allows, by its name in lower case; those that are empty are left out."""

    @property
    def window(self) -> tuple[float, float] | None:
        """Both bounds, if both can be read."""
        return None if self.first is None or self.last is None else (self.first, self.last)

    @property
    def cdr_types(self) -> tuple[int, ...]:
        """The call types asked for."""
        return tuple(int(kind) for kind in self.filters.get("cdrtypes", ()) if kind.isdecimal())


def parse_request(method: str, query: bytes, body: bytes, headers: Mapping[str, str]) -> ParsedRequest:
    """Read a request: a flat query string for GET, JSON with ``search`` within for POST; names in any case."""
    top, search = _parse_query_string(query) if method == "GET" else _parse_body(body)
    scheme, _, token = headers.get("authorization", "").partition(" ")
    code = top.get("code")
    return ParsedRequest(
        code=None if code is None else str(code),
        token=token.strip() or None if scheme.lower() == "bearer" else None,
        first=_to_epoch_seconds(search.get("fromdate")),
        last=_to_epoch_seconds(search.get("todate")),
        fields=_to_texts(top.get("fields")),
        sort=tuple(_iter_sort_levels(top.get("sort"))),
        filters={name: texts for name in _FILTERS if (texts := _to_texts(search.get(name)))},
    )


def _parse_query_string(query: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    found: dict[str, list[str]] = defaultdict(list)
    for key, value in parse_qsl(query.decode("latin-1")):
        found[key.lower()].append(value)
    flat: dict[str, Any] = {key: value if key in _LISTS else value[0] for key, value in found.items()}
    levels = sorted(key.removesuffix(".field") for key in flat if key.startswith("sort[") and key.endswith("].field"))
    flat["sort"] = [{"field": flat[f"{level}.field"], "order": flat.get(f"{level}.order", "asc")} for level in levels]
    return flat, flat


def _parse_body(body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        top = _fold_keys(json.loads(body))
    except (ValueError, RecursionError):
        top = {}
    return top, _fold_keys(top.get("search"))


def _fold_keys(value: object) -> dict[str, Any]:
    return {str(key).lower(): item for key, item in value.items()} if isinstance(value, Mapping) else {}


def _to_texts(value: object) -> tuple[str, ...]:
    values: Iterable[object] = value if isinstance(value, list | tuple) else (value,)
    return tuple(str(item) for item in values if item is not None and item != "")


def _iter_sort_levels(value: object) -> Iterable[tuple[str, str]]:
    for level in value if isinstance(value, list) else [value]:
        folded = _fold_keys(level)
        if folded.get("field"):
            yield str(folded["field"]), "desc" if str(folded.get("order", "asc")).lower() == "desc" else "asc"


def _to_epoch_seconds(text: object) -> float | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (moment - EPOCH) / timedelta(seconds=1)
