"""Destinations of a sync."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from voicenter_cdr import ConfigurationError
from voicenter_cdr.export import COLUMNS
from voicenter_cdr.sync.stores import open_store

MISSING = {"obstore": "object-store", "psycopg": "postgres", "pyarrow": "parquet"}


@pytest.mark.parametrize(
    ("destination", "library"),
    [
        ("lake/", "pyarrow"),
        ("s3://bucket/calls/", "pyarrow"),
        ("gs://bucket/calls/", "obstore"),
        ("postgresql://loader@host/calls", "psycopg"),
    ],
)
def test_open_store_missing_library_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, destination: str, library: str
) -> None:
    """Without its library a destination says what to install, before any request."""
    monkeypatch.chdir(tmp_path)
    for module in (library, *(name for name in sys.modules if name.startswith(f"{library}."))):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match=f"needs {library}") as caught:
        open_store(destination, None, COLUMNS, None)
    assert str(caught.value).endswith(f"pip install 'voicenter-cdr[{MISSING[library]}]'")
    assert list(tmp_path.iterdir()) == []
