"""Targets by name: what opens, what is refused, and what is missing."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from support.full_records import FULL
from support.text_files import written

from voicenter_cdr import ConfigurationError
from voicenter_cdr.export import CsvSink, JsonlSink, committing, open_sink


@pytest.mark.parametrize(
    ("target", "options", "hint"),
    [
        ("a.parquet.gz", {}, "packed already"),
        ("a.db", {"format": "duckdb"}, "format asked for is duckdb"),
        (io.BytesIO(), {"format": "sqlite"}, "is a file"),
        ("-", {"format": "duckdb"}, "is a file"),
        ("a.parquet", {"excel": True}, "for CSV"),
    ],
)
def test_open_sink_impossible_table_target_is_refused(target: Any, options: dict[str, Any], hint: str) -> None:
    """A target that can hold no table is refused when the sink is opened."""
    with pytest.raises(ConfigurationError, match=hint):
        open_sink(target, **options)


@pytest.mark.parametrize(
    ("name", "library", "command"),
    [
        ("a.parquet", "pyarrow", "pip install 'voicenter-cdr[parquet]'"),
        ("a.duckdb", "duckdb", "pip install 'voicenter-cdr[duckdb]'"),
        ("a.xlsx", "xlsxwriter", "pip install 'voicenter-cdr[excel]'"),
        ("lake/", "pyarrow", "pip install 'voicenter-cdr[parquet]'"),
    ],
)
def test_open_sink_missing_library_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, library: str, command: str
) -> None:
    """Without its library a format says what is missing and how to install it, before any request."""
    for module in [module for module in sys.modules if module.partition(".")[0] == library]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigurationError, match=f"needs {library}") as caught:
        open_sink(f"{tmp_path}/{name}")
    assert str(caught.value).splitlines()[-1] == f"Install it: {command}"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl", JsonlSink),
        ("a.ndjson", JsonlSink),
        ("a.b.JSONL.GZ", JsonlSink),
        ("a.csv", CsvSink),
        ("a.csv.gz", CsvSink),
    ],
)
def test_open_sink_ending_decides_the_format(tmp_path: Path, name: str, kind: type) -> None:
    """The format follows the ending of the name."""
    assert type(open_sink(tmp_path / name)) is kind
    assert type(open_sink(str(tmp_path / name))) is kind


@pytest.mark.parametrize(
    ("name", "options", "hint"),
    [
        ("a.json", {}, r"name it \.jsonl"),
        ("a.xls", {}, r"known: \.jsonl"),
        ("a", {}, r"known: \.jsonl"),
        ("a.gz", {}, r"known: \.jsonl"),
        ("a.csv", {"format": "jsonl"}, "format asked for is jsonl"),
        ("a.csv", {"format": "xml"}, "Unknown format"),
        ("a.jsonl", {"excel": True}, "for CSV"),
        ("nowhere/a.csv", {}, "does not exist"),
        ("folder.csv", {}, "is a folder"),
    ],
)
def test_open_sink_impossible_name_is_refused(tmp_path: Path, name: str, options: dict[str, Any], hint: str) -> None:
    """An unusable target is refused when the sink is opened, with a hint; nothing is left behind."""
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigurationError, match=hint):
        open_sink(tmp_path / name, **options)
    assert [p.name for p in tmp_path.iterdir()] == ["folder.csv"]


def test_open_sink_unwritable_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without permission is refused before anything is fetched for it."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigurationError, match="is not writable"):
        open_sink(tmp_path / "a.csv")


def test_open_sink_given_format_needs_no_ending(tmp_path: Path) -> None:
    """With a format given, any name without another format's ending will do."""
    assert type(open_sink(tmp_path / "calls", "csv")) is CsvSink
    assert type(open_sink(tmp_path / "calls.txt", "jsonl")) is JsonlSink
    assert type(open_sink(tmp_path / "calls.gz", "csv")) is CsvSink


def test_open_sink_dash_is_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """A dash writes to standard output: JSON Lines unless CSV is asked for."""
    for options in ({}, {"format": "csv"}):
        with committing(open_sink("-", **options)) as sink:
            sink.write([FULL])
    assert capfdbinary.readouterr().out == written(JsonlSink, [[FULL]]) + written(CsvSink, [[FULL]])
