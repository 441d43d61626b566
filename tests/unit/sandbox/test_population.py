"""Records of any order and spelling, and by the million."""

from __future__ import annotations

import json
from typing import Any

from support.sandbox_by_hand import DAY, ask, moment, record

from voicenter_cdr.sandbox import Bulk, Records, Sandbox, load_jsonl


def test_records_of_any_order_are_sorted_by_time() -> None:
    """Sorted by time; from DateEpoch where there is no Date; nothing else is touched."""
    rows = [record(5), {"date": moment(3), "callid": "naive"}, {"DateEpoch": DAY.timestamp() + 4, "CallID": "epoch"}]
    population = Records(rows)
    assert [dict(population.record(n)) for n in range(3)] == [rows[1], rows[2], rows[0]]
    assert len(population) == 3


def test_load_jsonl_reads_plain_and_packed_files(tmp_path: Any) -> None:
    """JSON Lines, plain and gzip."""
    import gzip

    text = "".join(json.dumps(record(n)) + "\n" for n in range(3)) + "\n"
    (tmp_path / "a.jsonl").write_text(text, "utf-8")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    assert len(load_jsonl(tmp_path / "a.jsonl")) == len(load_jsonl(str(tmp_path / "a.jsonl.gz"))) == 3


async def test_bulk_of_a_million_is_made_when_asked_for() -> None:
    """Only their times are kept; a page of any window is made when it is asked for."""
    start = int(DAY.timestamp() * 1000)
    app = Sandbox(Bulk(range(start, start + 1_000_000 * 1000, 1000)))
    body = (await ask(app, 0, 3_000_000, sort=[{"field": "date", "order": "desc"}])).json()
    assert (body["TOTAL_HITS"], len(body["CDR_LIST"])) == (1_000_000, 10_000)
    assert len(app.population) == 1_000_000  # type: ignore[arg-type]
