"""Encoding of requests: a query becomes the nested JSON that all live clients use (evidence, section 8), or a GET."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from attrs import field, frozen

from voicenter_cdr._times import format_second, from_epoch_seconds
from voicenter_cdr.core.protocol.fields import API_NAMES, DOCUMENTED_NAMES
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.models import CdrField, CdrQuery, Sort, SortOrder
from voicenter_cdr.models.instants import to_utc
from voicenter_cdr.models.records import REQUIRED_FIELDS

__all__ = ["ApiRequest", "Credentials", "call_id_window", "encode_query", "parse_credentials"]


@frozen
class Credentials:
    """Account code or bearer token, exactly one of them. Never shown."""

    code: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)

    @property
    def secret(self) -> str:
        """Return the code or token."""
        return self.code or self.token or ""


def parse_credentials(code: str | None, token: str | None) -> Credentials | str:
    """Return the credential, or the text of an error; raising here would put the credential into a traceback."""
    found: dict[str, str | None] = {}
    for name, value in (("code", code), ("token", token)):
        if value is not None and not isinstance(value, str):
            return f"{name} takes text"
        found[name] = plain = (value or "").strip() or None
        if plain and (not (plain.isascii() and plain.isprintable()) or " " in plain):
            return f"The {name} holds characters no credential has; was it pasted whole and alone?"
    if (found["code"] is None) == (found["token"] is None):
        return (
            ("No credential" if found["code"] is None else "Two credentials")
            + ": give exactly one of code=… and token=…, or use CdrClient.from_env(), which reads "
            "VOICENTER_API_CODE or VOICENTER_BEARER_TOKEN"
        )
    return Credentials(**found)


@frozen
class ApiRequest:
    """HTTP request, ready to be sent. Its parts may hold the credential, so none of them is shown."""

    method: Literal["GET", "POST"]
    params: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)


def _to_text(second: int) -> str:
    return format_second(from_epoch_seconds(second))[:-1]


def call_id_window(call_id: str, around: datetime | None = None) -> tuple[datetime, datetime]:
    """Return the period in which the records of a call lie: a day on either side of ``around``.

    Without it, the time that the id begins with: a CallID begins with 14 digits of Israel local time (evidence, derived
    from the vendor's samples). Raises :class:`ConfigurationError` for other ids, and for times beyond the calendar.
    """
    if around is not None:
        middle = to_utc("around", around)
        try:
            return middle - timedelta(days=1), middle + timedelta(days=1)
        except OverflowError:
            raise ConfigurationError("around is outside the years 1 to 9999") from None
    try:
        local = datetime.strptime(call_id.strip()[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        return local - timedelta(days=1, hours=3), local + timedelta(days=1)
    except (ValueError, AttributeError, OverflowError):
        raise ConfigurationError(
            "This call_id does not begin with a date and time; say when the call was: get_call(call_id, around=…)"
        ) from None


def _requested_fields(query: CdrQuery) -> list[str]:
    if query.fields == "*":
        return []
    if query.fields is None:
        return list(DOCUMENTED_NAMES)
    return [API_NAMES[name] for name in dict.fromkeys((*query.fields, *map(CdrField, REQUIRED_FIELDS)))]


def _sorting(sort: Sequence[Sort]) -> list[dict[str, str]]:
    sort_names = {CdrField.STARTED_AT: "date"}
    return [{"field": sort_names.get(level.field, API_NAMES[level.field]), "order": str(level.order)} for level in sort]


def _search(query: CdrQuery, first: int, last: int, cdr_types: Sequence[int]) -> dict[str, Any]:
    types = [int(kind) for kind in (cdr_types or query.cdr_types)]
    every: dict[str, Any] = {
        "fromdate": _to_text(first),
        "todate": _to_text(last),
        "phones": list(query.phones),
        "extensions": list(query.extensions),
        "IdentityCriteria": str(query.identity) if query.identity else None,
        "callID": query.call_id,
        "cdrTypes": types,
        "campaignID": list(query.campaign_ids),
        "queueID": list(query.queue_ids),
    }
    return {name: value for name, value in every.items() if value not in (None, [])}


def encode_query(
    query: CdrQuery,
    first: int,
    last: int,
    credentials: Credentials,
    *,
    sort: Sequence[Sort] = (Sort(CdrField.STARTED_AT, SortOrder.ASC),),
    cdr_types: Sequence[int] = (),
    method: Literal["GET", "POST"] = "POST",
) -> ApiRequest:
    """Return the request for ``query``'s records between two seconds (since 1970, UTC), both as the service reads them.

    ``cdr_types`` narrows the query's own. A POST has the nested form; a GET has the flat one with repeated keys, and
    carries a code in its URL.
    """
    search = _search(query, first, last, cdr_types)
    headers = [("accept", "application/json"), ("accept-encoding", "gzip")]  # can be unpacked in pieces
    if credentials.token:
        headers.append(("authorization", f"Bearer {credentials.token}"))
    if method == "GET":
        flat = {"code": credentials.code, "fields": _requested_fields(query), **search}
        params = [
            (name, str(item))
            for name, value in flat.items()
            for item in (value if isinstance(value, list) else [value] if value else [])
        ]
        params += [
            (f"sort[{n}].{part}", text) for n, level in enumerate(_sorting(sort)) for part, text in level.items()
        ]
        return ApiRequest("GET", tuple(params), tuple(headers))
    body: dict[str, Any] = {"code": credentials.code} if credentials.code else {}
    fields = _requested_fields(query)
    body |= {"fields": fields} if fields else {}
    body |= {"search": search, "sort": _sorting(sort)}
    headers.append(("content-type", "application/json"))
    return ApiRequest("POST", (), tuple(headers), json.dumps(body).encode())
