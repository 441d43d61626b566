"""Clients of commands: for the account, or for a synthetic call centre in this process."""

from __future__ import annotations

import codecs
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from voicenter_cdr._files import decode_secret
from voicenter_cdr._validation import check_number
from voicenter_cdr.cli import periods
from voicenter_cdr.cli.console import progress_bar
from voicenter_cdr.cli.options import ConnectionOptions, OutputOptions
from voicenter_cdr.errors import ConfigurationError, VoicenterError
from voicenter_cdr.models import Cdr, CdrQuery

if TYPE_CHECKING:
    from voicenter_cdr.client import CdrClient
    from voicenter_cdr.limiters import RedisLimiter, SqliteLimiter
    from voicenter_cdr.pseudonyms import Pseudonymiser

__all__ = [
    "SANDBOX_CODE",
    "drop_checkpoints",
    "load_pseudonymiser",
    "loopback_host",
    "open_client",
    "read_records",
    "read_secret",
]

SANDBOX_CODE: Final = "sandbox-code"
"""Credential of the synthetic service."""

_DEMO_URL: Final = "http://127.0.0.1/"

_SECRETS: Final = ("VOICENTER_API_CODE", "VOICENTER_CODE", "VOICENTER_BEARER_TOKEN")


@asynccontextmanager
async def open_client(
    connection: ConnectionOptions, query: CdrQuery, *, recordings: bool = False
) -> AsyncIterator[CdrClient]:
    """Open a client while the block lasts. With ``recordings``, the synthetic call centre serves recordings, too."""
    from voicenter_cdr.client import CdrClient

    check_number("--concurrency", connection.concurrency, minimum=1, whole=True)
    if connection.max_wait is not None:
        check_number("--max-wait", connection.max_wait, minimum=0)
    if connection.code_file and connection.token_file:
        raise ConfigurationError("--code-file and --token-file are two credentials: leave out one")
    options: dict[str, Any] = {"concurrency": connection.concurrency}
    options |= {"base_url": connection.base_url} if connection.base_url else {}
    options |= {"code": read_secret("--code-file", connection.code_file)} if connection.code_file else {}
    options |= {"token": read_secret("--token-file", connection.token_file)} if connection.token_file else {}
    async with AsyncExitStack() as stack:
        if connection.demo:
            if len(options) > 1:
                raise ConfigurationError("--demo brings its own service: leave out --base-url and the credential")
            if connection.share:
                raise ConfigurationError("--demo has a rate limit of its own: leave out --share")
            options |= await stack.enter_async_context(_serve_demo(query, recordings))
        elif not {"code", "token"} & options.keys() and not any(os.environ.get(name, "").strip() for name in _SECRETS):
            raise ConfigurationError(
                "No credential",
                hint="Set VOICENTER_API_CODE or VOICENTER_BEARER_TOKEN, or name a file with --code-file or "
                "--token-file. --demo needs no account.",
            )
        if re.match(r"[^/]*//[^/]*@", connection.share or ""):
            raise ConfigurationError(
                "A password on the command line would show in the list of processes",
                hint="Set VOICENTER_SHARE to the address, and leave out --share.",
            )
        share = connection.share or os.environ.get("VOICENTER_SHARE", "").strip()
        if share and not connection.demo:
            options["limiter"] = await stack.enter_async_context(_open_limiter(share))
        yield await stack.enter_async_context(CdrClient.from_env(**options))


def loopback_host(connection: ConnectionOptions) -> tuple[str, ...]:
    """Return the host of the service if it is this machine, which may serve recordings, too; else an empty tuple."""
    from voicenter_cdr.core.http.transport import is_loopback

    url = _DEMO_URL if connection.demo else connection.base_url or os.environ.get("VOICENTER_BASE_URL", "")
    host = urlsplit(url).hostname or ""
    return (host,) if is_loopback(host) else ()


def _open_limiter(place: str) -> SqliteLimiter | RedisLimiter:
    """Return the limiter that all programs share that name the same file or Redis."""
    from voicenter_cdr.limiters import RedisLimiter, SqliteLimiter

    if place.startswith(("redis://", "rediss://", "unix://")):
        return RedisLimiter(place)
    if "://" in place:
        raise ConfigurationError("--share (VOICENTER_SHARE) takes a file, redis://…, rediss://… or unix://…")
    return SqliteLimiter(place)


@asynccontextmanager
async def _serve_demo(query: CdrQuery, recordings: bool) -> AsyncIterator[dict[str, str]]:
    """Serve a synthetic call centre on a port of this machine while the block lasts.

    Its days are the same in every run. Only days of the query are generated. A query that ends in the future gets one
    more day of calls.
    """
    from voicenter_cdr.sandbox import Behaviour, CallCentre, Sandbox, serving

    behaviour = Behaviour(recordings="here" if recordings else "as_stored")
    now = periods.now()
    start = max(query.start, now - timedelta(days=periods.DEMO_DAYS)) - timedelta(hours=1)
    end = max(now, min(query.end, now + timedelta(days=1)))
    async with serving(Sandbox(CallCentre(start, end), codes=(SANDBOX_CODE,), behaviour=behaviour)) as url:
        yield {"base_url": url, "code": SANDBOX_CODE}


def load_pseudonymiser(path: str | None) -> Pseudonymiser | None:
    """Return the pseudonymiser with the key in a file; ``None`` without a file."""
    if path is None:
        return None
    from voicenter_cdr.pseudonyms import Pseudonymiser

    # An editor's byte order mark is no part of the key: with and without it, the pseudonyms must be the same.
    return Pseudonymiser(_read_file("--pseudonymise-key-file", path).removeprefix(codecs.BOM_UTF8))


@contextmanager
def drop_checkpoints(pseudonymiser: Pseudonymiser | None) -> Iterator[None]:
    """Remove checkpoints from errors if numbers are pseudonymised: they hold digests of records with real numbers."""
    try:
        yield
    except VoicenterError as error:
        if pseudonymiser is not None:
            error.checkpoint = None
        raise


def _read_file(flag: str, path: str) -> bytes:
    # Neither the path nor a value is shown: a secret given by mistake in place of its file would be.
    try:
        return decode_secret(Path(path).read_bytes())
    except OSError as error:
        raise ConfigurationError(f"The file of {flag} can't be read: {error.strerror}") from None


def _decode_text(flag: str, content: bytes) -> str:
    """Return the text of a file, without the byte order mark that Windows editors put before it."""
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise ConfigurationError(f"The file of {flag} holds no text") from None


def read_secret(flag: str, path: str) -> str:
    """Return the secret in a file, or in the first line of standard input (``-``)."""
    if path == "-":
        line = sys.stdin.buffer.readline() if hasattr(sys.stdin, "buffer") else sys.stdin.readline().encode()
        text = _decode_text(flag, line)
    else:
        text = _decode_text(flag, _read_file(flag, path))
    if not text.strip():
        raise ConfigurationError(f"{'Standard input' if path == '-' else 'The file'} of {flag} is empty")
    return text.strip()


async def read_records(
    query: CdrQuery,
    connection: ConnectionOptions,
    messages: OutputOptions,
    take: Callable[[Cdr], None],
    *,
    order: Literal["any", "time"] = "any",
) -> int:
    """Pass every record to ``take``; return their number."""
    async with (
        open_client(connection, query) as client,
        aclosing(client.iter_pages(query, order=order, max_wait=connection.max_wait)) as pages,
        progress_bar(pages, query, shown=messages.shows_progress),
    ):
        async for page in pages:
            for cdr in page.records:
                take(cdr)
        return pages.stats.records
