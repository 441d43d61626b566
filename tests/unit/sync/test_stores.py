"""Destinations of a sync."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from voicenter_cdr import ConfigurationError
from voicenter_cdr.export import COLUMNS, Format
from voicenter_cdr.sync.stores import open_store

MISSING = {"obstore": "object-store", "psycopg": "postgres", "pyarrow": "parquet"}


@pytest.mark.parametrize(
    ("destination", "format", "library"),
    [
        ("lake/", None, "pyarrow"),
        ("s3://bucket/calls/", None, "pyarrow"),
        ("gs://bucket/calls/", "jsonl", "obstore"),
        ("postgresql://loader@host/calls", None, "psycopg"),
    ],
)
def test_open_store_missing_library_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, destination: str, format: Format | None, library: str
) -> None:
    """Without its library a destination says what to install, before any request."""
    monkeypatch.chdir(tmp_path)
    for module in (library, *(name for name in sys.modules if name.startswith(f"{library}."))):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match=f"needs {library}") as caught:
        open_store(destination, format, COLUMNS, None)
    assert str(caught.value).endswith(f"pip install 'voicenter-cdr[{MISSING[library]}]'")
    assert list(tmp_path.iterdir()) == []
