"""Downloads of recordings: complete and with sound, or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import random
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC
from pathlib import Path, PurePosixPath
from typing import Any, Final

import attrs
import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from voicenter_cdr._files import PART_SUFFIX, open_exclusive, sync_file, sync_folder
from voicenter_cdr._validation import check_number
from voicenter_cdr.core.http.decompression import MAX_CHUNKS
from voicenter_cdr.core.http.failures import explain_failure
from voicenter_cdr.core.http.transport import Connections, parse_retry_after, timeouts
from voicenter_cdr.core.ratelimit.backoff import exponential_backoff
from voicenter_cdr.errors import RecordingError, without_frames
from voicenter_cdr.export.dataset import day_folder
from voicenter_cdr.models import Cdr
from voicenter_cdr.recordings.manifest import MANIFEST, Manifest, Recording, RecordingStatus, describe, recording_key
from voicenter_cdr.recordings.media import AUDIO_FORMATS, AudioFormat, Soundness, check_sound, identify
from voicenter_cdr.recordings.partial import (
    FileChangedError,
    PartialDownload,
    digest,
    discard_partial,
    file_size,
    find_partial,
    open_partial,
)
from voicenter_cdr.recordings.policy import (
    DEFAULT_HOSTS,
    MAX_REDIRECTS,
    DownloadPolicy,
    not_a_recording_error,
    parse_link,
    prepare_folder,
)

__all__ = ["download_recording", "download_recordings"]

_LOG: Final = logging.getLogger("voicenter_cdr")

_LONGEST_PAUSE: Final = 120.0
"""Seconds up to which a Retry-After is obeyed."""

_PAGE: Final = re.compile(r"text/html|application/(json|xml|xhtml|problem)", re.IGNORECASE)
"""Media types of pages, which need not be read; otherwise the bytes decide, since servers guess."""

_NUMBER: Final = re.compile(r"\d{9,}")
"""Digits that may be a phone number."""
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
    """Fetch the recording of one record into a folder, unless it exists.

    It is written as ``….part`` and renamed when it is complete, by the transfer and by its own header. Interrupted
    downloads resume, also in a later run, if a strong ETag proves the file unchanged; otherwise they restart.

    - ``hosts``: hosts to ask, by exact name or as ``.suffix``; over https alone, except this machine, which has to be
      named (``127.0.0.1``).
    - ``timeout``: seconds of silence after which an attempt is given up.
    - ``max_bytes``: largest recording.
    - ``max_attempts``: attempts when the connection or the server fails; nothing else is retried.
    - ``transport``: an ``httpx`` transport in place of the network; it is not closed here.

    Raises :class:`RecordingError` if there is no complete recording, :class:`ConfigurationError` for invalid options,
    ``OSError`` if it can't be written, or another download, also of this program, uses the folder.
    For many recordings use :func:`download_recordings`.
    """
    policy = DownloadPolicy.of(hosts, timeout=timeout, max_bytes=max_bytes, max_attempts=max_attempts)
    async with _downloading(prepare_folder(directory), policy, transport) as downloads:
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
    """Fetch the recordings of records as they arrive, such as ``client.iter_all(query)``; yield each when it is done.

    Records that expect no recording and have no link are skipped. A recording that can't be fetched is yielded with
    its status and its reason (see :data:`RecordingStatus`), noted in the manifest, and retried by the next run; the
    others continue. Existing files are not fetched again. ``concurrency``: downloads at a time; the order is that in
    which they end. When the server asks for a pause (429 with Retry-After), no new download begins until it is over.
    The other options are those of :func:`download_recording`.

    Use it under ``contextlib.aclosing``: leaving it ends the running downloads, and their ``.part`` files stay.
    Raises :class:`ConfigurationError` for invalid options, ``OSError`` if something can't be written or
    another program fetches into the folder, and errors of ``records``.
    """
    check_number("concurrency", concurrency, minimum=1, whole=True)
    policy = DownloadPolicy.of(hosts, timeout=timeout, max_bytes=max_bytes, max_attempts=max_attempts)
    return _run(records, prepare_folder(directory), concurrency, policy, transport)


async def _run(
    records: AsyncIterable[Cdr],
    folder: Path,
    concurrency: int,
    policy: DownloadPolicy,
    transport: httpx.AsyncBaseTransport | None,
) -> AsyncGenerator[Recording, None]:
    source = aiter(records)
    running: dict[asyncio.Task[Recording], tuple[str, str]] = {}
    """Downloads under way, by the record's key and its file's name: neither may be fetched twice at once."""
    ended: list[asyncio.Task[Recording]] = []
    following: asyncio.Task[Cdr | None] | None = None
    over = False
    async with _downloading(folder, policy, transport) as downloads:
        try:
            while running or not over:
                if following is None and not over and len(running) < concurrency:
                    following = asyncio.create_task(_read_next(source))
                waiting: set[asyncio.Task[Any]] = {*running, following} if following else {*running}
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                ended = [task for task in running if task in done]
                for task in ended:  # before a new one begins: it may be for a later version of the same record
                    del running[task]
                if following in done:
                    cdr, following = following.result(), None
                    over = cdr is None
                    if cdr is not None and _expects_recording(cdr):
                        names = cdr.key, file_stem(cdr)
                        if not any(map(set(names).intersection, running.values())):
                            running[asyncio.create_task(downloads.download_or_report(cdr))] = names
                for task in ended:
                    yield task.result()
        finally:
            left: list[asyncio.Task[Any]] = [*running, *ended, *([following] if following else [])]
            for unfinished in left:
                unfinished.cancel()
            await asyncio.gather(*left, return_exceptions=True)


@asynccontextmanager
async def _downloading(
    folder: Path, policy: DownloadPolicy, transport: httpx.AsyncBaseTransport | None
) -> AsyncIterator[_Downloads]:
    """Lock a folder: two programs would overwrite each other's parts and lines."""
    with open_exclusive(folder / MANIFEST):
        async with aclosing(Connections(transport)) as connections:
            yield _Downloads(folder, policy, connections, await asyncio.to_thread(Manifest, folder))


async def _read_next(source: Any) -> Cdr | None:
    """Return the next record; ``None`` after the last."""
    found: Cdr | None = await anext(source, None)
    return found


def _expects_recording(cdr: Cdr) -> bool:
    return bool(cdr.record_url or cdr.record_expect)


class _Downloads:
    """Downloads into one folder."""

    def __init__(self, folder: Path, policy: DownloadPolicy, connections: Connections, manifest: Manifest) -> None:
        self._folder = folder
        self._policy = policy
        self._connections = connections
        self._manifest = manifest
        self._resume_at = 0.0
        self._first_of_leg: dict[str, str] = {}
        """``Cdr.key`` of the first record seen of each leg in this run, by :func:`recording_key` of the leg."""

    async def download_or_report(self, cdr: Cdr) -> Recording:
        """Return the recording of a record, also where it could not be fetched."""
        try:
            return await self.fetch(cdr)
        except RecordingError as error:
            tries = f" after {error.attempts} attempts" if (error.attempts or 0) > 1 else ""
            status: RecordingStatus = error.defect or ("missing" if error.is_missing else "failed")
            return self._manifest.add(describe(cdr, status, reason=error.message + tries))

    async def fetch(self, cdr: Cdr) -> Recording:
        """Return the recording, on the disk. Raises :class:`RecordingError`."""
        stem = day_folder(self._folder, cdr.started_at.astimezone(UTC).date()) / file_stem(cdr)
        if found := await self._find_existing(cdr, stem):
            return found
        part = stem.with_name(stem.name + PART_SUFFIX)
        kind = await without_frames(self._download(cdr, part))
        await asyncio.to_thread(sync_file, part)  # first the bytes, then the name
        path = part.replace(stem.with_name(stem.name + kind.suffix))
        await asyncio.to_thread(sync_folder, path.parent)
        return self._manifest.add(await self._describe(cdr, path, "stored"))

    def _check_link(self, cdr: Cdr) -> httpx.URL:
        if not cdr.record_url:
            raise RecordingError("The record has no link to a recording", is_missing=True)
        url = parse_link(cdr.record_url.strip())
        self._policy.check(url)
        return url

    # -- existing files

    async def _find_existing(self, cdr: Cdr, stem: Path) -> Recording | None:
        """Return the recording if it exists, as the manifest describes it or else by its name.

        Name and size are trusted: a file has its name only when all of it is on the disk, and reading all of them again
        would take longer with every run. ``sha256`` in the manifest allows a full check. A file that was stored
        before audio was checked is checked once, and fetched again if it is incomplete.
        """
        known = self._find_known(cdr, stem)
        if known is not None and known.path is not None:
            path = self._folder / known.path
            if file_size(path) != known.size:
                return None
            if self._manifest.is_proven(known.key):
                return attrs.evolve(known, status="present")
        elif (found := _existing_file(stem)) is not None:
            path = found
        else:
            return None
        defect = await asyncio.to_thread(_defect, path)
        if defect is not None:
            _LOG.warning("a recording that is %s is fetched again", defect, extra={"defect": str(defect)})
            if defect is Soundness.EMPTY:  # a truncated recording is kept until there is a complete one
                path.unlink()
            return None
        return self._manifest.add(await self._describe(cdr, path, "present"))

    def _find_known(self, cdr: Cdr, stem: Path) -> Recording | None:
        """Return the manifest's entry for a record's recording, unless it is about another record of its leg.

        A file of another name is the same recording under a link that has changed, unless its own file is there, too,
        or two records of this run are of that leg.
        """
        key = recording_key(cdr)
        known = self._manifest.recordings.get(key)
        if known is None:
            return self._manifest.recordings.get(cdr.key)  # written by 0.2.0
        is_other = self._first_of_leg.setdefault(key, cdr.key) != cdr.key
        is_own = known.path is None or PurePosixPath(known.path).stem == stem.name
        return known if is_own or not (is_other or _existing_file(stem)) else None

    async def _describe(self, cdr: Cdr, path: Path, status: RecordingStatus) -> Recording:
        sha256, size = await asyncio.to_thread(digest, path)
        media_type = next(kind.media_type for kind in AUDIO_FORMATS if path.suffix == kind.suffix)
        name = path.relative_to(self._folder).as_posix()
        return describe(cdr, status, path=name, size=size, sha256=sha256, media_type=media_type)

    # -- attempts

    async def _download(self, cdr: Cdr, part: Path) -> AudioFormat:
        """Download the file into the part, in at most the allowed number of attempts; return its format."""
        link = self._check_link(cdr)
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._policy.max_attempts),
            wait=_wait_seconds,
            retry=retry_if_exception(_is_retryable),
            sleep=asyncio.sleep,
            reraise=True,
        )
        try:
            return await retrying(self._attempt, link, part)
        except RecordingError as error:
            error.attempts = int(retrying.statistics.get("attempt_number", 1))
            raise

    async def _attempt(self, link: httpx.URL, part: Path) -> AudioFormat:
        loop = asyncio.get_running_loop()
        while (pause := self._resume_at - loop.time()) > 0:
            await asyncio.sleep(pause)
        try:
            try:
                return await self._download_once(link, part, find_partial(part))
            except FileChangedError:
                discard_partial(part)
                return await self._download_once(link, part, None)
        except httpx.RequestError as error:
            why = explain_failure(error)
            failure = RecordingError(why.describe("the recording"), hint=why.hint, retryable=why.can_heal)
        raise failure  # outside of the except block: a chained error would hold the link

    async def _download_once(self, link: httpx.URL, part: Path, kept: PartialDownload | None) -> AudioFormat:
        """Send one request, for the rest of a file or for all of it. Raises :class:`FileChangedError`."""
        async with self._open_response(link, kept) as response:
            if response.status_code == 206 and kept is not None:
                kept.check(response)
            elif response.status_code == 200:
                _refuse_pages(response)
                kept = PartialDownload.of(response)
            else:
                raise self._refusal(response, is_rest=kept is not None)
            self._refuse_size(kept.total or 0)
            try:
                await self._write(response, part, kept)
            except RecordingError:  # it is too large
                discard_partial(part)
                raise
        size = file_size(part)
        if kept.total is not None and size < kept.total:
            raise RecordingError("The response broke off", retryable=True)
        if kept.total is not None and size > kept.total:
            discard_partial(part)
            raise RecordingError("The response is longer than the service had announced")
        return await asyncio.to_thread(_identify, part, length_was_announced=kept.total is not None)

    @asynccontextmanager
    async def _open_response(self, url: httpx.URL, kept: PartialDownload | None) -> AsyncIterator[httpx.Response]:
        """Send a request and follow its redirects, each to an allowed host; yield the last response."""
        headers = {"accept": "*/*", "accept-encoding": "identity"}
        if kept is not None:
            headers |= {"range": f"bytes={kept.start}-", "if-range": kept.etag}
        seen = set[httpx.URL]()
        while url not in seen and len(seen) <= MAX_REDIRECTS:
            self._policy.check(url)
            seen.add(url)
            request = httpx.Request("GET", url, headers=headers, extensions={"timeout": timeouts(self._policy.timeout)})
            async with self._connections.stream(request) as response:
                if not response.has_redirect_location:
                    yield response
                    return
                url = parse_link(response.headers["location"], url)
        raise RecordingError("The link leads from one address to the next, and not to a recording", status=302)

    async def _write(self, response: httpx.Response, part: Path, kept: PartialDownload) -> None:
        with open_partial(part, kept) as (file, known):
            size = kept.start
            assert isinstance(response.stream, httpx.AsyncByteStream)
            chunks = 0
            async for chunk in response.stream:  # as sent: no compression was requested, so none is removed
                chunks += 1
                if not chunks % MAX_CHUNKS:
                    await asyncio.sleep(0)
                size += len(chunk)
                self._refuse_size(size)
                same, chunk = chunk[: len(known)], chunk[len(known) :]
                if not known.startswith(same):
                    raise FileChangedError
                known = known[len(same) :]
                file.write(chunk)
            if known:  # the response is shorter than the existing part
                raise FileChangedError

    def _refuse_size(self, size: int) -> None:
        if size > self._policy.max_bytes:
            raise RecordingError(
                f"The recording holds more than {self._policy.max_bytes:,} bytes",
                hint="Allow more with max_bytes.",
            )

    def _refusal(self, response: httpx.Response, *, is_rest: bool) -> Exception:
        status = response.status_code
        if is_rest and status == 416:
            return FileChangedError()
        wait = parse_retry_after(response.headers)
        if status == 429:
            if wait is not None:
                pause = min(wait, _LONGEST_PAUSE)
                refused = "the service refuses recordings for their rate; new ones wait %.1f s"
                _LOG.warning(refused, pause, extra={"seconds": pause})
                self._resume_at = max(self._resume_at, asyncio.get_running_loop().time() + pause)
            later = "" if wait is None else f"; it accepts one again in {wait:.0f} s"
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
            return RecordingError(f"The link leads to nothing (HTTP {status})", status=status, is_missing=True)
        hint = None
        if status in (401, 403):
            hint = "Ask Voicenter to open the links of recordings to this address, then run it again."
        return RecordingError(f"The service does not give the recording (HTTP {status})", status=status, hint=hint)


def _is_retryable(error: BaseException) -> bool:
    """Return whether another attempt can help."""
    return isinstance(error, RecordingError) and error.retryable and error.status != 429


def _wait_seconds(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return exponential_backoff(state.attempt_number, random.random(), getattr(error, "retry_after", None))


def file_stem(cdr: Cdr) -> str:
    """Return the file's name without its suffix: nothing from the service that could lead out of the folder.

    Its digest is made from the leg's time, type, extensions and link, but from no phone number: file names are shared,
    and a search of all numbers would find the one in ``Cdr.key``.
    """
    link = _NUMBER.sub("", (cdr.record_url or "").replace(cdr.call_id or "", ""))
    kind = None if cdr.cdr_type is None else int(cdr.cdr_type)
    parts = (cdr.call_id, kind, cdr.started_at.isoformat(), cdr.caller_extension, cdr.target_extension, link)
    made = hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    safe = cdr.call_id is not None and _SAFE_ID.fullmatch(cdr.call_id)
    return f"{cdr.call_id}-{made[:12]}" if safe else made


def _existing_file(stem: Path) -> Path | None:
    """Return the finished file of this name, whatever its kind."""
    paths = (stem.with_name(stem.name + kind.suffix) for kind in AUDIO_FORMATS)
    return next((path for path in paths if file_size(path)), None)


def _defect(path: Path) -> Soundness | None:
    """Return the defect of an audio file; ``None`` if it is complete."""
    with path.open("rb") as file:
        kind = identify(file.read(64))
    found = Soundness.TRUNCATED if kind is None else check_sound(path, kind)
    return None if found is Soundness.WHOLE else found


def _identify(part: Path, *, length_was_announced: bool) -> AudioFormat:
    """Return the format of a finished download. Raises :class:`RecordingError` unless it is a complete recording."""
    with part.open("rb") as file:
        front = file.read(64)
    kind = identify(front)
    if kind is None:
        discard_partial(part)
        begins = front.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
        kinds = {b"": "nothing at all", b"<": "a page", b"{": "a text", b"[": "a text"}
        what = kinds.get(begins, "something of no known kind")
        raise not_a_recording_error(what, defect=None if front else "empty")
    found = check_sound(part, kind)
    if found is Soundness.WHOLE:
        return kind
    discard_partial(part)
    if found is Soundness.EMPTY:
        raise RecordingError("The recording holds no sound", defect="empty")
    # If the server announced the length, the transfer is complete; otherwise it may have been cut off.
    raise RecordingError(
        "The recording's length is not the one in its own header",
        defect="truncated",
        retryable=not length_was_announced,
    )


def _refuse_pages(response: httpx.Response) -> None:
    if _PAGE.match(response.headers.get("content-type", "")):
        raise not_a_recording_error("a page or a text")
