"""Recordings: the sound of calls in a folder by day, and a manifest that joins it to the records.

::

    recordings/manifest.jsonl
    recordings/date=2026-07-14/20260714113106004512ab9c77de01f2-5b1f0c9d2a77.mp3

What is behind a link (``record_url``) needs access of its own, is throttled, and may be a login page in place of a
recording (evidence). So it is asked with care: no credential and no cookie goes along, only hosts that are allowed are
asked, over https; what comes is looked at before it is called a recording, and a link that is refused with 429 is not
asked again. None of it is a request to the Call Log API: the limit of 30 in 60 seconds is for that alone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC
from pathlib import Path
from typing import Any, Final

import attrs
import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from voicenter_cdr._files import PART_SUFFIX, open_exclusive, sync_file, sync_folder
from voicenter_cdr.core.http.transport import proxy_for, redact_httpcore_logs, retry_after, tls_context
from voicenter_cdr.core.ratelimit.backoff import backoff
from voicenter_cdr.errors import ConfigurationError, RecordingError
from voicenter_cdr.export.dataset import day_folder
from voicenter_cdr.models import Cdr
from voicenter_cdr.recordings.manifest import MANIFEST, Recording, RecordingStatus, _append, _of, read_manifest
from voicenter_cdr.recordings.media import _AUDIO, _ending, _refuse_pages
from voicenter_cdr.recordings.partial import _ChangedError, _digest, _discard, _Kept, _kept_of, _opened, _size
from voicenter_cdr.recordings.policy import _REDIRECTS, DEFAULT_HOSTS, _address, _folder, _Rules

__all__ = ["download_recording", "download_recordings"]

_LOG: Final = logging.getLogger("voicenter_cdr")

_CONNECT: Final = 15.0
"""Seconds a connection may take to come about."""

_LONGEST_PAUSE: Final = 120.0
"""Seconds up to which a Retry-After is obeyed."""

_SAFE_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,79}")


async def download_recording(
    cdr: Cdr,
    directory: str | os.PathLike[str],
    *,
    hosts: Iterable[str] = DEFAULT_HOSTS,
    timeout: float = 30.0,
    max_bytes: int = 2**30,
    max_attempts: int = 3,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Recording:
    """Fetch the recording of one record into the folder, unless it is there.

    It is written as ``….part`` and gets its name when it is whole. What broke off is gone on with, be it by a later
    run, where a strong ETag says that it is the same file still; otherwise, and after a kill, it is fetched anew.
    ``hosts``: whom to ask, by exact name or as ``.suffix``; over https alone, but for this machine itself, which has to
    be named (``127.0.0.1``). ``timeout``: seconds of silence after which an attempt is given up. ``max_bytes``: what a
    recording may hold. ``max_attempts``: how often to try when the connection or the server fails; nothing else is
    tried again. ``transport``: in place of the network; it is not closed.

    Raises :class:`RecordingError` where there is no recording to be had, :class:`ConfigurationError` for options that
    make no sense, ``OSError`` where it can't be written or somebody else fetches into the folder, be it another call of
    this program. Many are fetched by :func:`download_recordings`.
    """
    rules = _Rules.of(hosts, timeout=timeout, max_bytes=max_bytes, max_attempts=max_attempts)
    async with _downloading(_folder(directory), rules, transport) as downloads:
        return await downloads.fetch(cdr)


def download_recordings(
    records: AsyncIterable[Cdr],
    directory: str | os.PathLike[str],
    *,
    concurrency: int = 4,
    hosts: Iterable[str] = DEFAULT_HOSTS,
    timeout: float = 30.0,
    max_bytes: int = 2**30,
    max_attempts: int = 3,
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncGenerator[Recording, None]:
    """Fetch the recordings of records as they come, such as ``client.iter_all(query)``; tells of each as it is done.

    Records that expect no recording and have no link are passed over. What can't be fetched is told with its reason
    (``failed``, ``missing``), noted in the manifest, and tried again by the next run; it stops nothing. What is there
    is not fetched again. ``concurrency``: downloads at a time; the order is that in which they end. When the server
    asks for a pause (429 with Retry-After), no new download begins until it is over.
    The other options are those of :func:`download_recording`.

    Use it under ``contextlib.aclosing``: leaving it ends the downloads under way, and their ``.part`` files stay.
    Raises :class:`ConfigurationError` for options that make no sense, ``OSError`` where something can't be written or
    somebody else fetches into the folder, and what ``records`` raises.
    """
    if concurrency < 1:
        raise ConfigurationError("concurrency takes a whole number from 1")
    rules = _Rules.of(hosts, timeout=timeout, max_bytes=max_bytes, max_attempts=max_attempts)
    return _run(records, _folder(directory), concurrency, rules, transport)


async def _run(
    records: AsyncIterable[Cdr],
    folder: Path,
    concurrency: int,
    rules: _Rules,
    transport: httpx.AsyncBaseTransport | None,
) -> AsyncGenerator[Recording, None]:
    source = aiter(records)
    running: dict[asyncio.Task[Recording], str] = {}
    ended: list[asyncio.Task[Recording]] = []
    following: asyncio.Task[Cdr | None] | None = None
    over = False
    async with _downloading(folder, rules, transport) as downloads:
        try:
            while running or not over:
                if following is None and not over and len(running) < concurrency:
                    following = asyncio.create_task(_next(source))
                waiting: set[asyncio.Task[Any]] = {*running, following} if following else {*running}
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                ended = [task for task in running if task in done]
                for task in ended:  # before a new one begins: it may be for a later version of the same record
                    del running[task]
                if following in done:
                    cdr, following = following.result(), None
                    over = cdr is None
                    if cdr is not None and _has_one(cdr) and cdr.key not in running.values():
                        running[asyncio.create_task(downloads.told(cdr))] = cdr.key
                for task in ended:
                    yield task.result()
        finally:
            left: list[asyncio.Task[Any]] = [*running, *ended, *([following] if following else [])]
            for unfinished in left:
                unfinished.cancel()
            await asyncio.gather(*left, return_exceptions=True)


@asynccontextmanager
async def _downloading(
    folder: Path, rules: _Rules, transport: httpx.AsyncBaseTransport | None
) -> AsyncIterator[_Downloads]:
    """Downloads into a folder that nobody else fetches into: two would take each other's parts and lines."""
    with open_exclusive(folder / MANIFEST):
        async with aclosing(_Network(transport)) as network:
            yield _Downloads(folder, rules, network, await asyncio.to_thread(read_manifest, folder))


async def _next(source: Any) -> Cdr | None:
    """The next record; ``None`` behind the last."""
    found: Cdr | None = await anext(source, None)
    return found


def _has_one(cdr: Cdr) -> bool:
    return bool(cdr.record_url or cdr.record_expect)


class _Network:
    """Bare transports: they know no cookies, no credentials and no redirects, and write no link to a log."""

    def __init__(self, given: httpx.AsyncBaseTransport | None) -> None:
        self._given = given
        self._made: dict[str, httpx.AsyncBaseTransport] = {}
        self._tls: ssl.SSLContext | None = None

    async def ask(self, request: httpx.Request) -> httpx.Response:
        """The answer, its body still to be read."""
        way = self._given or await self._way(request.url)
        with redact_httpcore_logs():
            return await way.handle_async_request(request)

    async def _way(self, url: httpx.URL) -> httpx.AsyncBaseTransport:
        if self._tls is None:
            self._tls = await tls_context()
        proxy = proxy_for(str(url))
        name = str(proxy.url) if proxy else ""
        if name not in self._made:
            limits = httpx.Limits(max_connections=None, keepalive_expiry=30.0)
            self._made[name] = httpx.AsyncHTTPTransport(verify=self._tls, proxy=proxy, limits=limits)
        return self._made[name]

    async def aclose(self) -> None:
        """Close what was opened here."""
        for way in self._made.values():
            await way.aclose()


class _Downloads:
    """Downloads into one folder."""

    def __init__(self, folder: Path, rules: _Rules, network: _Network, known: dict[str, Recording]) -> None:
        self._folder = folder
        self._rules = rules
        self._network = network
        self._known = known
        self._resume_at = 0.0

    async def told(self, cdr: Cdr) -> Recording:
        """What became of a record's recording, also where that is a failure."""
        try:
            return await self.fetch(cdr)
        except RecordingError as error:
            tries = f" after {error.attempts} attempts" if (error.attempts or 0) > 1 else ""
            status: RecordingStatus = "missing" if error.is_missing else "failed"
            return self._noted(_of(cdr, status, reason=error.message + tries))

    async def fetch(self, cdr: Cdr) -> Recording:
        """The recording, on the disk. Raises :class:`RecordingError`."""
        stem = day_folder(self._folder, cdr.started_at.astimezone(UTC).date()) / _name(cdr)
        if found := await self._found(cdr, stem):
            return found
        part = stem.with_name(stem.name + PART_SUFFIX)
        await self._pulled(self._link(cdr), part)
        ending = _ending(part)
        await asyncio.to_thread(sync_file, part)  # first the bytes, then the name that says that they are there
        path = part.replace(stem.with_name(stem.name + ending))
        await asyncio.to_thread(sync_folder, path.parent)
        return self._noted(await self._described(cdr, path, "stored"))

    def _link(self, cdr: Cdr) -> httpx.URL:
        if not cdr.record_url:
            raise RecordingError("The record has no link to a recording", is_missing=True)
        url = _address(cdr.record_url.strip())
        self._rules.check(url)
        return url

    # -- the manifest

    async def _found(self, cdr: Cdr, stem: Path) -> Recording | None:
        """The recording, if it is there: as the manifest has it, or else, without a line, under its name.

        Name and size are believed, since a file has its name only when all of it is on the disk: to read every one
        again would take longer with every run. Who doubts them has ``sha256`` in the manifest.
        """
        known = self._known.get(cdr.key)
        if known is not None and known.path is not None:
            is_there = _size(self._folder / known.path) == known.size
            return attrs.evolve(known, status="present") if is_there else None
        path = _there(stem)
        return None if path is None else self._noted(await self._described(cdr, path, "present"))

    def _noted(self, recording: Recording) -> Recording:
        known = self._known.get(recording.key)
        if known is None or attrs.evolve(known, fetched_at=recording.fetched_at) != recording:
            _append(self._folder / MANIFEST, recording)
            self._known[recording.key] = recording
        return recording

    async def _described(self, cdr: Cdr, path: Path, status: RecordingStatus) -> Recording:
        digest, size = await asyncio.to_thread(_digest, path)
        media_type = next(media_type for ending, media_type, _ in _AUDIO if path.suffix == ending)
        name = path.relative_to(self._folder).as_posix()
        return _of(cdr, status, path=name, size=size, sha256=digest, media_type=media_type)

    # -- attempts

    async def _pulled(self, link: httpx.URL, part: Path) -> None:
        """Bring the whole file into the part, in as many attempts as are allowed."""
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._rules.max_attempts),
            wait=_pause,
            retry=retry_if_exception(_passes),
            sleep=asyncio.sleep,
            reraise=True,
        )
        try:
            await retrying(self._attempt, link, part)
        except RecordingError as error:
            error.attempts = int(retrying.statistics.get("attempt_number", 1))
            raise

    async def _attempt(self, link: httpx.URL, part: Path) -> None:
        loop = asyncio.get_running_loop()
        while (pause := self._resume_at - loop.time()) > 0:
            await asyncio.sleep(pause)
        try:
            try:
                await self._pull(link, part, _kept_of(part))
            except _ChangedError:
                _discard(part)
                await self._pull(link, part, None)
        except httpx.RequestError as error:
            failure = RecordingError(f"The connection failed ({type(error).__name__})", retryable=True)
        else:
            return
        raise failure  # out here, so that it is chained to nothing that holds the link

    async def _pull(self, link: httpx.URL, part: Path, kept: _Kept | None) -> None:
        """One request, for the rest of what is kept or for the whole. :class:`_ChangedError`: there is no such rest."""
        async with aclosing(await self._ask(link, kept)) as response:
            if response.status_code == 206 and kept is not None:
                kept.check(response)
            elif response.status_code == 200:
                _refuse_pages(response)
                kept = _Kept.of(response)
            else:
                raise self._refusal(response, is_rest=kept is not None)
            self._refuse_size(kept.total or 0)
            try:
                await self._write(response, part, kept)
            except RecordingError:  # it is too large
                _discard(part)
                raise
        size = _size(part)
        if kept.total is not None and size < kept.total:
            raise RecordingError("The answer broke off", retryable=True)
        if kept.total is not None and size > kept.total:
            _discard(part)
            raise RecordingError("More came than the service had announced")

    async def _ask(self, url: httpx.URL, kept: _Kept | None) -> httpx.Response:
        """The answer behind the redirects, each of which leads to an allowed host."""
        headers = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "voicenter-cdr"}
        if kept is not None:
            headers |= {"range": f"bytes={kept.start}-", "if-range": kept.etag}
        timeout = httpx.Timeout(self._rules.timeout, connect=min(_CONNECT, self._rules.timeout)).as_dict()
        seen = set[httpx.URL]()
        while url not in seen and len(seen) <= _REDIRECTS:
            self._rules.check(url)
            seen.add(url)
            response = await self._network.ask(
                httpx.Request("GET", url, headers=headers, extensions={"timeout": timeout})
            )
            if not response.has_redirect_location:
                return response
            await response.aclose()
            url = _address(response.headers["location"], url)
        raise RecordingError("The link leads from one address to the next, and to no recording", status=302)

    async def _write(self, response: httpx.Response, part: Path, kept: _Kept) -> None:
        with _opened(part, kept) as (file, known):
            size = kept.start
            assert isinstance(response.stream, httpx.AsyncByteStream)
            async for chunk in response.stream:  # as sent: no compression was asked for, so none is taken off
                size += len(chunk)
                self._refuse_size(size)
                same, chunk = chunk[: len(known)], chunk[len(known) :]
                if not known.startswith(same):
                    raise _ChangedError
                known = known[len(same) :]
                file.write(chunk)
            if known:  # not even what there was before came
                raise _ChangedError

    def _refuse_size(self, size: int) -> None:
        if size > self._rules.max_bytes:
            raise RecordingError(
                f"The recording holds more than {self._rules.max_bytes:,} bytes",
                hint="Allow more with max_bytes, or --max-bytes on the command line.",
            )

    def _refusal(self, response: httpx.Response, *, is_rest: bool) -> Exception:
        status = response.status_code
        if is_rest and status == 416:
            return _ChangedError()
        wait = retry_after(response.headers)
        if status == 429:
            if wait is not None:
                pause = min(wait, _LONGEST_PAUSE)
                _LOG.warning("the service refuses recordings for their rate; new ones wait %.1f s", pause)
                self._resume_at = max(self._resume_at, asyncio.get_running_loop().time() + pause)
            later = "" if wait is None else f"; it takes one again in {wait:.0f} s"
            return RecordingError(
                f"The service refuses the link for now (HTTP 429){later}",
                status=status,
                retry_after=wait,
                retryable=True,
                hint="Wait, then run it again: asking the same link at once makes it worse.",
            )
        if status >= 500:
            what = f"The service failed (HTTP {status})"
            return RecordingError(what, status=status, retry_after=wait, retryable=True)
        if status in (404, 410):
            return RecordingError(f"There is nothing behind the link (HTTP {status})", status=status, is_missing=True)
        hint = None
        if status in (401, 403):
            hint = "Ask Voicenter to open the links of recordings to this address, then run it again."
        return RecordingError(f"The service does not give the recording (HTTP {status})", status=status, hint=hint)


def _passes(error: BaseException) -> bool:
    """Whether another attempt is due."""
    return isinstance(error, RecordingError) and error.retryable and error.status != 429


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return backoff(state.attempt_number, random.random(), getattr(error, "retry_after", None))


def _name(cdr: Cdr) -> str:
    """The name of the file without its ending: nothing of the service's that could lead out of the folder."""
    safe = cdr.call_id is not None and _SAFE_ID.fullmatch(cdr.call_id)
    return f"{cdr.call_id}-{cdr.key[:12]}" if safe else cdr.key


def _there(stem: Path) -> Path | None:
    """The finished file of this name, whatever its kind."""
    paths = (stem.with_name(stem.name + ending) for ending, _, _ in _AUDIO)
    return next((path for path in paths if _size(path)), None)
