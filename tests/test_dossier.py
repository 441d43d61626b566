"""The dossier: every fault of a transport and every answer of the API, in every phase of an iteration.

What comes is the complete result, or the one error that is documented, with a checkpoint from which a healthy service
brings exactly the rest. Nothing in between, and nothing that hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from dossier import ROWS, WHOLE, Row, table

import voicenter_cdr
from voicenter_cdr import Cdr, CdrClient, CdrQuery, RateLimit, ServiceUnreachableError, VoicenterError
from voicenter_cdr.sandbox import Behaviour, Bulk, Fault, Hit, Sandbox, serving
from voicenter_cdr.testing import in_process

START = datetime(2026, 7, 1, tzinfo=UTC)
QUERY = CdrQuery(START, START + timedelta(hours=2))
CAP = 20
BEGIN = int(START.timestamp() * 1000)
EVENLY = Bulk(BEGIN + 40_000 * number for number in range(170))
CROWDED = Bulk([*(BEGIN + 90_000 * number for number in range(70)), *[BEGIN + 3_000_500] * 35])
HOURS = 3 * 3_600
LATE = BEGIN / 1_000 + 6_000


@frozen
class Phase:
    """When in an iteration it goes wrong."""

    name: str
    behaviour: Behaviour
    population: Bulk
    begins: Callable[[int, Hit], bool]
    """Whether a request, by its number and what it asks, is the first of the phase."""


def _span(hit: Hit) -> float:
    return hit.window[1] - hit.window[0] if hit.window else 0.0


PHASES = (
    Phase("first window", Behaviour(cap=CAP), EVENLY, lambda place, _: place == 0),
    Phase("middle", Behaviour(cap=CAP), EVENLY, lambda place, _: place == 5),
    Phase(
        "last window",
        Behaviour(cap=CAP),
        EVENLY,
        lambda _, hit: hit.window is not None and hit.window[0] > LATE,
    ),
    Phase("a split", Behaviour(cap=CAP, sort="ignored"), EVENLY, lambda _, hit: _span(hit) < 3_000),
    Phase("the ladder", Behaviour(cap=CAP), CROWDED, lambda _, hit: _span(hit) <= 2 and len(hit.sort) > 1),
)
"""A window is cut and split; one second holds more than an answer can."""


async def _run(way: dict[str, Any], got: list[Cdr], resume: str | None = None) -> None:
    limit = RateLimit(1_000, 60.0)
    options: dict[str, Any] = {"page_cap": CAP, "max_attempts": 3, "timeout": 30.0, "rate_limit": limit}
    async with (
        CdrClient(code="sandbox-code", concurrency=1, **options, **way) as client,
        asyncio.timeout(HOURS),
        contextlib.aclosing(client.iter_all(QUERY, resume_from=resume)) as records,
    ):
        async for cdr in records:
            got.append(cdr)


@contextlib.asynccontextmanager
async def _way(app: Sandbox, *, wire: bool) -> AsyncIterator[dict[str, Any]]:
    """How a client reaches the service: over real HTTP, or in process."""
    if not wire:
        yield {"transport": in_process(app)}
        return
    async with serving(app) as url:
        yield {"base_url": url}


def _failing(phase: Phase, fault: Fault, *, once: bool) -> tuple[Sandbox, list[int]]:
    """A service that fails in this phase, and the numbers of the requests that it failed."""
    hurt: list[int] = []

    def faults(place: int, hit: Hit) -> Fault | None:
        if (hurt and not once) or (not hurt and phase.begins(place, hit)):
            hurt.append(place)
            return fault
        return None

    behaviour = phase.behaviour.but(requests=10_000)
    return Sandbox(phase.population, behaviour=behaviour, faults=faults), hurt


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.name)
@pytest.mark.parametrize("once", [True, False], ids=["once", "stays"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_the_complete_result_or_the_documented_error(row: Row, once: bool, phase: Phase) -> None:
    """As the table says; and after an error the checkpoint brings the rest from a service that is well again."""
    app, hurt = _failing(phase, row.fault, once=once)
    expected = row.once if once else row.stays
    got: list[Cdr] = []
    async with _way(app, wire=row.is_of_the_wire) as way:
        if expected == WHOLE:
            await _run(way, got)
        else:
            with pytest.raises(getattr(voicenter_cdr, expected)) as raised:
                await _run(way, got)
            assert type(raised.value).__name__ == expected
            checkpoint = raised.value.checkpoint
            assert checkpoint is not None
            app.faults = None
            await _run(way, got, resume=checkpoint)
    assert hurt
    assert len(got) == len({cdr.key for cdr in got}) == len(phase.population) - row.told
    assert [cdr.started_at for cdr in got] == sorted(cdr.started_at for cdr in got)


@pytest.mark.parametrize("totals", ["text", "missing", "null", "capped"])
@pytest.mark.parametrize("phase", PHASES[:4], ids=lambda phase: phase.name)
async def test_totals_of_any_kind(totals: str, phase: Phase) -> None:
    """Whatever TOTAL_HITS says, an iteration is whole."""
    got: list[Cdr] = []
    app = Sandbox(phase.population, behaviour=phase.behaviour.but(requests=10_000, totals=totals))
    await _run({"transport": in_process(app)}, got)
    assert Counter(cdr.call_id for cdr in got) == Counter(
        phase.population.record(index)["CallID"] for index in range(len(phase.population))
    )


async def test_nobody_listens() -> None:
    """A refused connection is tried again, and then told with the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    got: list[Cdr] = []
    with pytest.raises(ServiceUnreachableError, match=f"127.0.0.1:{port}") as raised:
        await _run({"base_url": f"http://127.0.0.1:{port}/hub/cdr/"}, got)
    assert raised.value.attempts == 3
    assert raised.value.checkpoint is not None


async def test_no_tls_where_it_should_be() -> None:
    """A service that does not speak TLS, or whose certificate nobody vouches for, is no service."""
    async with serving(Sandbox(EVENLY)) as url:
        with pytest.raises(ServiceUnreachableError):
            await _run({"base_url": url.replace("http://", "https://")}, [])


def test_every_error_is_in_the_tree() -> None:
    """The table names documented errors only."""
    for row in ROWS:
        for name in {row.once, row.stays} - {WHOLE}:
            assert issubclass(getattr(voicenter_cdr, name), VoicenterError)


def test_readme_shows_the_table() -> None:
    """What README says a client survives is what was run here."""
    readme = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    assert "\n".join(table()) in readme
