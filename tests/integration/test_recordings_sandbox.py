"""Recordings of synthetic calls, over real connections."""

from __future__ import annotations

from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.recording_links import AT
from support.recording_server import (
    Pieces,
    Server,
    fetch,
    these,
)

from voicenter_cdr import CdrClient, CdrQuery, RecordingError
from voicenter_cdr.recordings import (
    download_recording,
    download_recordings,
    recording_key,
)
from voicenter_cdr.sandbox import Behaviour, CallCentre, Records, Sandbox, serving
from voicenter_cdr.testing import in_process, make_record, make_row

CENTRE = CallCentre(AT - timedelta(hours=20), AT, calls_per_day=60)
QUERY = CdrQuery(AT - timedelta(days=2), AT)


@pytest.mark.parametrize("recordings", ["as_stored", "here"])
async def test_sandbox_calls_have_recordings(tmp_path: Path, recordings: Any) -> None:
    """In process every link of a synthetic call plays, no two the same; the records stay as they are."""
    transport = in_process(Sandbox(CENTRE, behaviour=Behaviour(recordings=recordings)))
    async with CdrClient(code="sandbox-code", transport=transport) as client:
        records = [cdr async for cdr in client.iter_all(QUERY)]
    host = "api.voicenter.com" if recordings == "here" else "cpanel.voicenter.co.il"
    linked = [cdr for cdr in records if cdr.record_url]
    assert linked
    assert all(httpx.URL(str(cdr.record_url)).host == host for cdr in linked)
    found = download_recordings(these(records), tmp_path, transport=transport)
    async with aclosing(found):
        stored = [recording async for recording in found if recording.status == "stored"]
    assert {recording.key for recording in stored} == {recording_key(cdr) for cdr in linked}
    assert len({recording.sha256 for recording in stored}) == len({cdr.record_url for cdr in linked})


async def test_sandbox_recordings_over_http(tmp_path: Path) -> None:
    """Served, the links lead to the port, ranges are honoured, and a part is resumed over a real connection."""
    pytest.importorskip("uvicorn")
    app = Sandbox(CENTRE, behaviour=Behaviour(recordings="here"))
    async with serving(app) as url, CdrClient(code="sandbox-code", base_url=url) as client:
        cdr = next(iter([cdr async for cdr in client.iter_all(QUERY) if cdr.record_url]))
        assert str(cdr.record_url).startswith(url.removesuffix("/hub/cdr/") + "/CallsHistory/PlayRecord/")
        first = await download_recording(cdr, tmp_path, hosts=["127.0.0.1"])
        body = (tmp_path / str(first.path)).read_bytes()
        (tmp_path / str(first.path)).unlink()
        async with httpx.AsyncClient(trust_env=False) as http:
            told = dict((await http.get(str(cdr.record_url))).headers)
        torn = httpx.Response(200, headers=told, stream=Pieces(body[:5000], then=httpx.ReadError("gone")))
        with pytest.raises(RecordingError):
            await fetch(Server(body, torn), tmp_path, cdr, hosts=["127.0.0.1"], max_attempts=1)
        again = await download_recording(cdr, tmp_path, hosts=["127.0.0.1"])
        assert again.sha256 == first.sha256
        assert (tmp_path / str(again.path)).read_bytes() == body
        async with httpx.AsyncClient(trust_env=False) as http:
            link = str(cdr.record_url)
            middle = await http.get(link, headers={"range": "bytes=100-199"})
            assert (middle.status_code, middle.content) == (206, body[100:200])
            assert middle.headers["content-range"] == f"bytes 100-199/{len(body)}"
            stale = {"range": "bytes=100-", "if-range": '"other"'}
            assert (await http.get(link, headers=stale)).content == body
            assert (await http.get(link, headers={"range": f"bytes={len(body)}-"})).status_code == 416
            assert (await http.get(link.replace("PlayRecord/", "PlayRecord/../"))).status_code == 404
            assert (await http.post(link)).status_code == 404


async def test_sandbox_moves_no_other_links() -> None:
    """Only synthetic calls' links are led to the sandbox: a record without one, or with another, keeps what it has."""
    rows = [make_row(number=n, RecordURL=link) for n, link in enumerate(["", None, "https://x.example/CallsHistory/a"])]
    app = Sandbox(Records(rows), behaviour=Behaviour(recordings="here"))
    at = make_record().started_at
    async with CdrClient(code="sandbox-code", transport=in_process(app)) as client:
        found = [cdr.record_url async for cdr in client.iter_all(CdrQuery(at, at + timedelta(seconds=1)))]
    assert sorted(map(str, found)) == ["None", "None", "https://x.example/CallsHistory/a"]
