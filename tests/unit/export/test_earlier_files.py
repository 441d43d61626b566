"""Files of 0.2.0: what is written today is what was written then.

The digests were taken by running the same code on version 0.2.0. Meant differences are left out: the columns
``customer_number`` (star, toll-free and shared-cost numbers have one spelling) and ``direction`` (an extension that
calls a queue is internal), how ``--excel`` shows times and long numbers, ``Cdr.version``, and menus whose steps hold
more than the documented keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from voicenter_cdr.core.protocol.responses import decode

pytest.importorskip("duckdb")
pytest.importorskip("pyarrow")

from support.earlier_files import digests
from support.wire_rows import responses

DIGESTS: Mapping[str, tuple[str, str]] = {
    "records": ("6849cc9ca60314e2", "f3426101b967d75e"),
    "calls.jsonl": ("b54975d0fdfc51b3", "a2d81e7366f1fdb9"),
    "calls.csv": ("09e8b1f332ff9796", "3e28c72cb57a2fde"),
    "excel.csv": ("17687d02787db176", "0d0326205fedfc1b"),
    "calls.parquet": ("f9eec6156fe8685f", "88547c0969e39280"),
    "calls.sqlite": ("e360c57ff6637913", "953fe760037db2ab"),
    "calls.duckdb": ("a439b2452e0fe4cd", "336650df2f739976"),
    "days/": ("f8d547e89ecc8382", "db5c5c598cbae607"),
    "lines/": ("0cb20c13f00de65f", "921a836142319fff"),
    "raw calls.jsonl": ("77bcf7d8a33c027a", "cdd6b01104e981a5"),
    "raw calls.csv": ("1516a91bc9c0ae11", "91cbce0069932371"),
    "raw excel.csv": ("3e373c9894acefe0", "037da55246a56d06"),
    "raw calls.parquet": ("7153e8fc159f2748", "3a5a633348878f37"),
    "raw calls.sqlite": ("e6911babe05995f2", "03d26d10fa9fe4b9"),
    "raw calls.duckdb": ("f2ca53651247c508", "d19e54551028df1a"),
}
"""Digests of what 0.2.0 made of 1,620 and of 16,200 rows: 1,506 and 15,112 records, and the rest can't be read."""


SOME = ("records", "calls.jsonl", "raw calls.csv", "calls.parquet", "calls.sqlite")


@pytest.mark.parametrize(
    ("plain", "nasty", "readable", "labels"),
    [
        pytest.param(1_200, 420, 1_506, SOME, id="some"),
        pytest.param(1_200, 420, 1_506, tuple(DIGESTS), id="small", marks=pytest.mark.exhaustive),
        pytest.param(12_000, 4_200, 15_112, tuple(DIGESTS), id="whole", marks=pytest.mark.exhaustive),
    ],
)
def test_files_hold_what_earlier_version_wrote(
    tmp_path: Path, plain: int, nasty: int, readable: int, labels: tuple[str, ...]
) -> None:
    """Records, and every format made of them, are as in 0.2.0; CSV byte for byte, the others value for value."""
    pages = [decode(200, {}, body).records for body in responses(plain, nasty)]
    assert sum(map(len, pages)) == readable
    size = 0 if plain == 1_200 else 1
    assert digests(tmp_path, pages, labels) == {label: DIGESTS[label][size] for label in labels}
