"""Rows of a response by their seconds."""

from __future__ import annotations

from support.responses import RECORD, body, read


def test_response_between_seconds_keeps_rows_of_unknown_time() -> None:
    """Readable and unreadable rows of the seconds asked for, and those whose time nobody knows."""
    rows = [RECORD | {"Date": f"2026-07-14T08:31:{second:02}Z", "CallID": str(second)} for second in range(6)]
    rows[1]["Duration"] = rows[4]["Duration"] = "x"
    response = read(body(rows[0], rows[1], rows[2], {"CallID": "?"}, rows[3], rows[4], rows[5]))
    first = response.seconds[0]
    assert first is not None
    records, invalid = response.between(first + 1, first + 4)
    assert [record.call_id for record in records] == ["2", "3"]
    assert [row.raw["CallID"] for row in invalid] == ["1", "?"]
    records, invalid = response.between(first + 4, first + 5)
    assert not records
    assert [row.raw["CallID"] for row in invalid] == ["?", "4"]
    whole = read(body(rows[0], rows[2])).between(first, first + 2)
    assert ([record.call_id for record in whole[0]], whole[1]) == (["0"], ())
