"""Fault matrix: every fault of a transport and every response of the API, in every phase of an iteration.

The outcome is the complete result, or the one error that is documented, with a checkpoint from which a healthy service
brings exactly the rest. Nothing in between, and nothing that hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from support.fault_matrix import ANSWERS, FAULTS, ROWS, WHOLE, Row, ends, table

import voicenter_cdr
from voicenter_cdr import (
    Cdr,
    CdrClient,
    CdrQuery,
    DecodeError,
    DenseWindowError,
    RateLimit,
    ServiceUnreachableError,
    VoicenterError,
)
from voicenter_cdr.sandbox import Behaviour, Bulk, Fault, Hit, Sandbox, serving
from voicenter_cdr.testing import in_process

START = datetime(2026, 7, 1, tzinfo=UTC)
QUERY = CdrQuery(START, START + timedelta(hours=2))
CAP = 6
BEGIN = int(START.timestamp() * 1000)
EVENLY = Bulk(BEGIN + 300_000 * number for number in range(24))
CROWDED = Bulk([*(BEGIN + 500_000 * number for number in range(15)), *[BEGIN + 3_000_500] * 9])
PLAIN = Behaviour(cap=CAP, requests=10_000, latency=1.0)
HOURS = 3 * 3_600
CONCURRENCIES = (1, 4)


@frozen
class Phase:
    """When in an iteration it goes wrong."""

    name: str
    begins: Callable[[Sequence[Hit]], int]
    """The number of its first request, of all those of an iteration in which nothing goes wrong."""
    population: Bulk = EVENLY
    behaviour: Behaviour = PLAIN


def _dense_second(hits: Sequence[Hit]) -> int:
    return next(place for place, hit in enumerate(hits) if hit.sort[0][1] == "desc")


PHASES = (
    Phase("first window", lambda _: 0),
    Phase("middle", lambda hits: len(hits) // 2),
    Phase("last window", lambda hits: len(hits) - 1),
    Phase("a split", lambda hits: len(hits) // 2, behaviour=PLAIN.but(sort="ignored")),
    Phase("a dense second", _dense_second, CROWDED),
)
"""A window is cut and split; one second holds more than an answer can."""


@frozen
class Case:
    """These go wrong, one after the other, from the beginning of a phase on."""

    rows: tuple[Row, ...]
    stays: bool
    """Return ``True`` if the last of them persists."""
    phase: Phase
    concurrency: int

    @property
    def struck(self) -> list[Row]:
        """Those that happen to a request; totals are what they are all the time."""
        return [row for row in self.rows if row.totals is None]

    @property
    def is_uncountable(self) -> bool:
        """Return ``True`` if a dense second meets totals that prove nothing."""
        return self.phase.population is CROWDED and any(row.totals not in (None, "text") for row in self.rows)

    @property
    def name(self) -> str:
        """Name for ``-k``."""
        rows = ", then ".join(row.name for row in self.rows)
        return f"{rows}-{'stays' if self.stays else 'once'}-{self.phase.name}-{self.concurrency} in flight"


def _alone() -> Iterator[Case]:
    """Every row in every phase, once and permanently: with one request in flight the one, with several the other."""
    for (i, row), (j, phase), stays in itertools.product(enumerate(ROWS), enumerate(PHASES), (False, True)):
        yield Case((row,), stays, phase, CONCURRENCIES[(i + j + stays) % 2])


def _together() -> Iterator[Case]:
    """Every fault with every answer, spread over the ways they can meet."""
    ways = list(itertools.product(PHASES, CONCURRENCIES, (False, True), (False, True)))
    for (i, fault), (j, answer) in itertools.product(enumerate(FAULTS), enumerate(ANSWERS)):
        phase, concurrency, stays, turned = ways[STRIDE * (i + j) % len(ways)]
        yield Case((answer, fault) if turned else (fault, answer), stays, phase, concurrency)


STRIDE = 11
"""Goes through all ways before it comes back to the first, and quickly through all phases."""
SAMPLE = 25
"""One pair in so many runs by default; prime to the number of answers, so that every row is among them."""
ALONE, TOGETHER = tuple(_alone()), tuple(_together())


def _is_sampled(case: Case) -> bool:
    place = ROWS.index(case.rows[0])
    return case.stays == bool(place // 2 % 2) and case.phase is PHASES[(place + 2 * case.stays) % len(PHASES)]


SAMPLED = [*filter(_is_sampled, ALONE), *TOGETHER[::SAMPLE]]
"""By default every row alone in one phase, once or for good, and a part of the pairs."""
_places: dict[tuple[str, str, int], int] = {}


async def _run(
    way: dict[str, Any], got: list[Cdr], concurrency: int = 1, resume: str | None = None
) -> VoicenterError | None:
    """Collect the records, and the error that ends the iteration."""
    limit = RateLimit(1_000, 60.0)
    options: dict[str, Any] = {"page_cap": CAP, "max_attempts": 3, "timeout": 30.0, "rate_limit": limit}
    async with (
        CdrClient(code="sandbox-code", concurrency=concurrency, **options, **way) as client,
        asyncio.timeout(HOURS),
        contextlib.aclosing(client.iter_all(QUERY, resume_from=resume)) as records,
    ):
        try:
            async for cdr in records:
                got.append(cdr)
        except VoicenterError as error:
            return error
    return None


@contextlib.asynccontextmanager
async def _way(app: Sandbox, *, wire: bool) -> AsyncIterator[dict[str, Any]]:
    """Transport of a client to the service: over real HTTP, or in process."""
    if not wire:
        yield {"transport": in_process(app)}
        return
    pytest.importorskip("uvicorn")
    async with serving(app) as url:
        yield {"base_url": url}


def _service(case: Case) -> Sandbox:
    totals = next((row.totals for row in case.rows if row.totals is not None), "honest")
    return Sandbox(case.phase.population, behaviour=case.phase.behaviour.but(totals=totals))


async def _begin(case: Case) -> int:
    """The number of the request with which it begins to go wrong: from a run in which nothing does."""
    app = _service(case)
    key = case.phase.name, app.behaviour.totals, case.concurrency
    if key not in _places:
        error = await _run({"transport": in_process(app)}, [], case.concurrency)
        assert error is None or (case.is_uncountable and isinstance(error, DenseWindowError))
        _places[key] = case.phase.begins(app.hits)
    return _places[key]


def _failing(case: Case, begin: int) -> tuple[Sandbox, list[Row]]:
    """A service in which that goes wrong, and what did, request by request."""
    app, happened = _service(case), list[Row]()

    def faults(place: int, _: Hit) -> Fault | None:
        left = case.struck[len(happened) :] or (case.struck[-1:] if case.stays else [])
        if place < begin or not left:
            return None
        happened.append(left[0])
        return left[0].strike()

    app.faults = faults
    return app, happened


def _told(error: VoicenterError) -> int:
    """Return the number of records of an error; an iteration that continues skips them."""
    problems = error.problems if isinstance(error, DecodeError) else ()
    return len({problem.path.partition("]")[0] for problem in problems if "[" in problem.path})


def _cases() -> Iterator[Any]:
    """A sample by default; every case, a minute of work, under the marker ``long``."""
    for case in ALONE + TOGETHER:
        yield pytest.param(
            case, marks=() if case in SAMPLED else (pytest.mark.exhaustive, pytest.mark.long), id=case.name
        )


@pytest.mark.parametrize("case", list(_cases()))
async def test_fault_ends_in_the_complete_result_or_its_error(case: Case) -> None:
    """As the table says; and after an error the checkpoint brings the rest from a service that is well again."""
    app, happened = _failing(case, await _begin(case))
    got: list[Cdr] = []
    # Two of them together are run in process, where a connection breaks as well; each alone over a real one.
    async with _way(app, wire=len(case.rows) == 1 and case.rows[0].is_of_the_wire) as way:
        error = await _run(way, got, case.concurrency)
        if error is not None:
            app.faults = None
            assert error.checkpoint is not None
            rest = await _run(way, got, case.concurrency, resume=error.checkpoint)
            assert rest is None or (case.is_uncountable and isinstance(rest, DenseWindowError))
    came, told = (WHOLE, 0) if error is None else (type(error).__name__, _told(error))
    if case.is_uncountable:
        assert came in {"DenseWindowError", *ends(tuple(dict.fromkeys(happened)), stays=case.stays)}
        assert len(got) == len({cdr.key for cdr in got})
        return
    assert happened or not case.struck
    stays = case.stays and case.struck[-1:] == happened[-1:]  # the last window may end before all of them have happened
    assert came in ends(tuple(dict.fromkeys(happened)), stays=stays)
    assert len(case.phase.population) - told <= len(got) <= len(case.phase.population)
    assert len(got) == len({cdr.key for cdr in got})
    assert [cdr.started_at for cdr in got] == sorted(cdr.started_at for cdr in got)


def test_fault_matrix_pairs_every_fault_with_every_answer() -> None:
    """Every row is in every phase with either number of requests in flight, and every fault with every answer."""
    alone = {(case.rows[0].name, case.phase.name, case.concurrency) for case in ALONE}
    assert len(alone) == len(ROWS) * len(PHASES) * len(CONCURRENCIES)
    pairs = [(*sorted(case.rows, key=ROWS.index), case.rows[0] in FAULTS, *_how(case)) for case in TOGETHER]
    for one, other in itertools.combinations(zip(*pairs, strict=True), 2):
        assert len(set(zip(one, other, strict=True))) == len(set(one)) * len(set(other))


def test_fault_matrix_sample_names_every_fault_and_every_answer() -> None:
    """The default sample covers every row."""
    sampled = {row.name for case in TOGETHER[::SAMPLE] for row in case.rows}
    assert sampled == {row.name for row in ROWS}
    sampled_alone = [case for case in SAMPLED if len(case.rows) == 1]
    assert {case.rows[0].name for case in sampled_alone} == {row.name for row in ROWS}
    phases = {(case.phase.name, case.stays, case.concurrency) for case in sampled_alone}
    assert phases == {
        (phase.name, stays, concurrency) for phase in PHASES for stays in (False, True) for concurrency in CONCURRENCIES
    }


def _how(case: Case) -> tuple[bool, str, int]:
    return case.stays, case.phase.name, case.concurrency


async def test_refused_connection_is_retried_and_raised() -> None:
    """A refused connection is retried, and then reported with the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    error = await _run({"base_url": f"http://127.0.0.1:{port}/hub/cdr/"}, [])
    assert isinstance(error, ServiceUnreachableError)
    assert f"127.0.0.1:{port}" in str(error)
    assert error.attempts == 3
    assert error.checkpoint is not None


async def test_connection_without_tls_raises() -> None:
    """A service that does not speak TLS, or whose certificate nobody vouches for, is no service."""
    pytest.importorskip("uvicorn")
    async with serving(Sandbox(EVENLY)) as url:
        error = await _run({"base_url": url.replace("http://", "https://")}, [])
    assert isinstance(error, ServiceUnreachableError)


def test_fault_table_names_documented_errors_only() -> None:
    """The table names documented errors only."""
    named = {name for row in ROWS for stays in (False, True) for name in ends([row], stays=stays)}
    for name in named - {WHOLE}:
        assert issubclass(getattr(voicenter_cdr, name), VoicenterError)


def test_fault_table_in_the_reference_is_what_was_run() -> None:
    """The documentation lists exactly the rows that run here."""
    page = (Path(__file__).parents[2] / ".docs" / "reference" / "errors.md").read_text("utf-8")
    assert "\n".join(table()) in page
