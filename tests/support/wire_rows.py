"""Rows as the service may send them: well-formed ones and nasty ones, the same in every version of Python."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

Row = list[tuple[str, str]]
"""Keys of one row, each with the JSON text of its value; a key may come twice."""

_START = datetime(2026, 3, 1, tzinfo=UTC)

_NUMBERS = ("0521234567", "972722776772", "+972-3-5551234", "100", "201", "*2345", "1700500400", "Anonymous", "", None)

_NAMES = ("Ruth Cohen", "דנה לוי", 'O\'Brien, "Pat"', "a;b\tc", "=1+1", "-5", "@sum", "line\r\nfeed", " blank ", None)

_STATUSES = ("ANSWER", "ABANDONE", "NOANSWER", "BUSY", "CANCEL", "VOEND", "TIMEOUT", "NOTCALLED", "SOMETHINGNEW", None)

_STEPS = (
    {"LayerName": "Main", "LayerNumber": "0", "DTMF": 1},
    {"LayerName": "Service", "LayerNumber": "1", "DTMF": "2"},
    {"LayerName": None, "LayerNumber": "", "DTMF": None},
)


class _Chooser:
    """Choices that a seed decides: by ``random()`` alone, which no version of Python has changed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def below(self, bound: int) -> int:
        return int(self._random.random() * bound)

    def one_of(self, values: Sequence[Any]) -> Any:
        return values[self.below(len(values))]


def rows(plain: int, nasty: int, seed: int = 1) -> Iterator[str]:
    """JSON texts of rows in order of time, the nasty ones spread among the plain ones."""
    chooser, total = _Chooser(seed), plain + nasty
    for number in range(total):
        row = _plain_row(chooser, number)
        if (number + 1) * nasty // total > number * nasty // total:
            for _ in range(1 + chooser.below(3)):
                chooser.one_of(_SPOILERS)(chooser, row)
        yield "{" + ",".join(f"{json.dumps(key)}:{value}" for key, value in row) + "}"


def responses(plain: int, nasty: int, per_page: int = 2_500) -> Iterator[bytes]:
    """The same rows as bodies of responses."""
    texts = list(rows(plain, nasty))
    for first in range(0, len(texts), per_page):
        page = texts[first : first + per_page]
        counts = f'"ERROR_NUMBER":0,"TOTAL_HITS":{len(page)},"RETURN_HITS":{len(page)}'
        yield f'{{{counts},"CDR_LIST":[{",".join(page)}]}}'.encode()


def _plain_row(chooser: _Chooser, number: int) -> Row:
    started = _START + timedelta(seconds=97 * number)
    kind = chooser.one_of((1, 4, 8, 8, 9, 10, 11, 13, 14, 15, 17, 19, 21, 23, 99))
    values: dict[str, Any] = {
        "CallerNumber": chooser.one_of(_NUMBERS),
        "TargetNumber": chooser.one_of(_NUMBERS),
        "Date": f"{started:%Y-%m-%dT%H:%M:%S}",
        "DateEpoch": int(started.timestamp()),
        "Duration": chooser.below(900),
        "CallID": f"20260301{number // 2:012d}",
        "Type": f"Kind {kind}",
        "CdrType": kind,
        "DialStatus": chooser.one_of(_STATUSES),
        "TargetExtension": chooser.one_of(("101", "102", "", None)),
        "CallerExtension": chooser.one_of(("101", "103", "", None)),
        "DID": chooser.one_of(("0722776772", "", None)),
        "QueueName": chooser.one_of(("Sales", "שירות", "", None)),
        "RecordURL": chooser.one_of((f"https://example.com/{number}.mp3", "", None)),
        "RecordExpect": chooser.one_of((True, False, None)),
        "Price": chooser.one_of((0, 12, 7.5, None)),
        "RingTime": chooser.one_of((0, 4, 31, None)),
        "RepresentativeName": chooser.one_of(_NAMES),
        "RepresentativeCode": chooser.one_of(("7", 12, None)),
        "UserName": chooser.one_of(_NAMES),
        "DTMFData": [chooser.one_of(_STEPS) for _ in range(chooser.below(4))],
        "CustomData": chooser.one_of(({}, {"var_leadID": f"L-{number}"}, {"a": "=2", "ב": "ג"}, None)),
        "DepartmentName": "Head office",
        "DepartmentId": chooser.one_of((12, 13, None)),
        "TargetPrefixName": chooser.one_of(("Israel Mobile", "", None)),
    }
    return [(key, json.dumps(value, ensure_ascii=False)) for key, value in values.items()]


def _replaced(keys: Sequence[str], values: Sequence[str]) -> Callable[[_Chooser, Row], None]:
    """A spoiler that gives one of the keys one of the values."""

    def spoil(chooser: _Chooser, row: Row) -> None:
        key, value = chooser.one_of(keys), chooser.one_of(values)
        row[:] = [(name, value if name == key else old) for name, old in row]

    return spoil


def _respell(chooser: _Chooser, row: Row) -> None:
    place = chooser.below(len(row))
    key, value = row[place]
    row[place] = (chooser.one_of((key.lower(), key.upper(), key.swapcase())), value)


def _double(chooser: _Chooser, row: Row) -> None:
    key, value = chooser.one_of(row)
    row.insert(chooser.below(len(row)), (chooser.one_of((key, key.lower(), key.upper())), value))


def _add(chooser: _Chooser, row: Row) -> None:
    value = chooser.one_of(('"x"', "1", "null", '{"a":[1,{"b":null}]}', '[true,"\\u2029"]', '"\\ud83d"', "0.1"))
    row.insert(chooser.below(len(row)), (chooser.one_of(("NewField", "new_field", "שדה", "", "extra")), value))


def _drop(chooser: _Chooser, row: Row) -> None:
    dropped = chooser.one_of(row)[0]
    row[:] = [pair for pair in row if pair[0] != dropped]


def _no_date(_: _Chooser, row: Row) -> None:
    row[:] = [pair for pair in row if pair[0] not in ("Date", "DateEpoch")]


def _shuffle(chooser: _Chooser, row: Row) -> None:
    row.sort(key=lambda _: chooser.below(1_000_000))


_TEXTS = ("CallerNumber", "TargetNumber", "QueueName", "UserName", "RepresentativeName", "DepartmentName", "CallID")

_WHOLES = ("Duration", "RingTime", "DepartmentId", "CdrType")

_ODD_TEXTS = (
    '"\\ud83d"',
    '"a\\ud83d\\ude00b"',
    '"\\u2028"',
    '"\\u0085שלום"',  # noqa: RUF001  # Hebrew
    '"\\u0000"',
    '"null"',
    "52",
    "0",
)
_OTHER_TEXTS = ('"\\t"', '"\\\\"', '"\\"\\""', '"052,123"', '"=HYPERLINK(1)"', '"\\ufeff"', "1.5", "[]", "true")

_SPOILERS = (
    _replaced(_TEXTS, _ODD_TEXTS),
    _replaced(_TEXTS, _OTHER_TEXTS),
    _replaced(_WHOLES, ('"12"', '" 7 "', '"+4"', '"012"', "12.0", '""', "null", "1e2")),
    _replaced(("RingTime", "DepartmentId"), ("-3", "2147483647", "-0")),
    _replaced(_WHOLES, ('"x"', "1.5", "true", "{}")),
    _replaced(("Price",), ('"7.50"', "0.25", '"0.10"', "12.0", '"1e3"', '""', '"free"', "-4", "99999999999.1234")),
    _replaced(("RecordExpect",), ('"true"', '"No"', "1", "0", '" YES "', '""', '"maybe"')),
    _replaced(("DialStatus",), ('"answer"', '" Answer "', '"ABANDONED"', '"שונה"', "5", '""')),
    _replaced(
        ("Date",),
        (
            '"2026-03-01T10:11:12.5"',
            '"2026-03-01T10:11:12.123456789"',
            '"2026-03-01T10:11:12+02:00"',
            '"2026-03-01T10:11:12.000001-05:30"',
            '"2026-03-01T10:11:12Z"',
            '"2026-03-01 10:11:12"',
            '"20260301T101112"',
            '"1969-12-31T23:59:59"',
            '"2026-03-01"',
            '"not a date"',
            '""',
            "null",
            "1772359872",
        ),
    ),
    _replaced(("DateEpoch",), ('"1772359872"', "1772359872.0", '""', "null", "-1")),
    _replaced(
        ("CustomData",),
        (
            '{"a":{"b":[1,{"c":null}]}}',
            '[{"a":"1"},{"b":2}]',
            '[{"a":1},{"a":2}]',
            '"{\\"a\\": {\\"b\\": 1}}"',
            '"{a: 1, b: \\"x\\"}"',
            '"{torn"',
            '""',
            '{"":""}',
            '{"a":"\\u2028","b":"\\ud800"}',
            '{"a":0.1,"b":12345678901234567890,"c":true}',
            "7",
            "[]",
        ),
    ),
    _replaced(
        ("DTMFData",),
        (
            '{"LayerName":"Main","DTMF":1,"LayerNumber":2}',
            '{"0":{"LayerName":"Main"},"1":{"DTMF":"#"}}',
            '"[{LayerName: \\"Main\\", DTMF: 3}]"',
            '[{"layername":"Main","DTMF":0}]',
            '[{"LayerName":"\\ud800","DTMF":"\\u2029"}]',
            '[{"LayerName":["x"]}]',
            '"torn["',
            '""',
            "{}",
            "[null]",
        ),
    ),
    _respell,
    _double,
    _add,
    _drop,
    _no_date,
    _shuffle,
)
