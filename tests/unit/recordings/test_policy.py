"""Invalid options and folders of downloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.recording_links import call
from support.recording_server import (
    Server,
    fetch,
    fetch_all,
    these,
)

from voicenter_cdr import ConfigurationError, RecordingError
from voicenter_cdr.recordings import (
    download_recordings,
    read_manifest,
    recording_key,
)


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"max_bytes": 0},
        {"max_attempts": 0},
        {"hosts": ".voicenter.com"},
        {"hosts": ["https://cpanel.voicenter.co.il"]},
        {"hosts": ["cpanel.voicenter.co.il:443"]},
        {"hosts": ["192.0.2.1"]},
        {"hosts": [""]},
        {"hosts": ["*"]},
    ],
)
def test_policy_invalid_options_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    """They are refused by the call itself, before a record is asked for."""
    with pytest.raises(ConfigurationError):
        download_recordings(these([call()]), tmp_path, **options)


def test_policy_invalid_folders_are_refused(tmp_path: Path) -> None:
    """A folder is made, but not the one it is in; a file is none."""
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "file", tmp_path / "no" / "where"):
        with pytest.raises(ConfigurationError):
            download_recordings(these([]), wrong)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("link", [None, ""])
async def test_download_record_without_a_link_is_missing(tmp_path: Path, link: str | None) -> None:
    """One that expects a recording misses it; one that does not is skipped."""
    server = Server()
    with pytest.raises(RecordingError, match="no link") as raised:
        await fetch(server, tmp_path, call(record_url=link))
    assert raised.value.is_missing
    records = [call(1, record_url=link), call(2, record_url=link, record_expect=False)]
    (missing,) = await fetch_all(server, tmp_path, records)
    assert (missing.status, missing.key, missing.path) == ("missing", recording_key(records[0]), None)
    assert server.requests == []
    assert list(read_manifest(tmp_path).values()) == [missing]
