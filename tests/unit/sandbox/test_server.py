"""The sandbox over HTTP."""

from __future__ import annotations

import httpx
import pytest
from support.sandbox_by_hand import moment, record

from voicenter_cdr import ConfigurationError
from voicenter_cdr.sandbox import Fault, Records, Sandbox, serving


async def test_serving_answers_until_the_block_is_left() -> None:
    """By uvicorn, on a free port, in the running loop; gone when the block is left."""
    app = Sandbox(Records([record(n) for n in range(3)]))
    async with serving(app) as url:
        async with httpx.AsyncClient(trust_env=False) as http:
            top = {"code": "sandbox-code", "search": {"fromdate": moment(0), "todate": moment(9)}}
            answer = await http.post(url, json=top)
            assert answer.json()["TOTAL_HITS"] == 3
            assert answer.headers["content-encoding"] == "gzip"
            app.faults = {1: Fault.truncate(20, tell_length=True), 2: Fault(drop=True)}
            with pytest.raises(httpx.RemoteProtocolError):
                await http.post(url, json=top)
            with pytest.raises(httpx.RemoteProtocolError):
                await http.post(url, json=top)
        port = int(url.split(":")[2].split("/")[0])
        with pytest.raises(ConfigurationError, match=str(port)):
            async with serving(app, port=port):
                pass
    async with httpx.AsyncClient(trust_env=False) as http:
        with pytest.raises(httpx.ConnectError):
            await http.post(url, json=top)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:8000", 200),
        ("[::1]:8000", 200),
        ("127.1:8000", 200),
        ("api.localhost", 200),
        ("calls.test", 200),
        ("evil.example:8000", 421),
        ("127.0.0.1.evil.example", 421),
        ("127.0.0.1 evil.example", 421),
        ("evil.example@127.0.0.1", 421),
        ("[::1].evil.example", 421),
        ("", 421),
    ],
)
async def test_serving_answers_its_own_names_only(host: str, status: int) -> None:
    """A web page whose name leads to this machine reads nothing."""
    app = Sandbox(Records([record(n) for n in range(3)]))
    top = {"code": "sandbox-code", "search": {"fromdate": moment(0), "todate": moment(9)}}
    async with serving(app, names=("calls.test",)) as url, httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(url, json=top, headers={"host": host})
    assert answer.status_code == status
    assert ("CDR_LIST" in answer.text) is (status == 200)


async def test_serving_without_uvicorn_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra."""
    import sys

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ConfigurationError, match=r"voicenter-cdr\[sandbox\]"):
        async with serving(Sandbox(Records([]))):
            pass
