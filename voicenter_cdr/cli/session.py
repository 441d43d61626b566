"""The client a command asks with: the account's, or one for a made-up call centre in this process."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from voicenter_cdr.cli import times
from voicenter_cdr.cli.flags import Access
from voicenter_cdr.client import CdrClient
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.models import CdrQuery
from voicenter_cdr.redis_pacing import RedisLimiter
from voicenter_cdr.sandbox import Behaviour, CallCentre, Sandbox, serving
from voicenter_cdr.sqlite_pacing import SqliteLimiter

__all__ = ["SANDBOX_CODE", "client_for", "this_machine"]

SANDBOX_CODE: Final = "sandbox-code"
"""What the made-up service takes for a credential."""
_DEMO_URL: Final = "http://127.0.0.1/"
_SECRETS: Final = ("VOICENTER_API_CODE", "VOICENTER_CODE", "VOICENTER_BEARER_TOKEN")


@asynccontextmanager
async def client_for(access: Access, query: CdrQuery, *, recordings: bool = False) -> AsyncIterator[CdrClient]:
    """A client for as long as the block lasts; of a made-up call centre, with recordings to be had from it or not."""
    options: dict[str, Any] = {"concurrency": access.concurrency}
    options |= {"base_url": access.base_url} if access.base_url else {}
    options |= {"code": _secret("--code-file", access.code_file)} if access.code_file else {}
    options |= {"token": _secret("--token-file", access.token_file)} if access.token_file else {}
    async with AsyncExitStack() as stack:
        if access.demo:
            if len(options) > 1:
                raise ConfigurationError("--demo brings its own service: leave out --base-url and the credential")
            options |= await stack.enter_async_context(_demo(query, recordings))
        elif not {"code", "token"} & options.keys() and not any(os.environ.get(name, "").strip() for name in _SECRETS):
            raise ConfigurationError(
                "No credential",
                mend="Set VOICENTER_API_CODE or VOICENTER_BEARER_TOKEN, name a file with --code-file or --token-file, "
                "or try it without an account: --demo.",
            )
        share = access.share or os.environ.get("VOICENTER_SHARE", "").strip()
        if share and not access.demo:
            options["limiter"] = await stack.enter_async_context(_shared(share))
        yield await stack.enter_async_context(CdrClient.from_env(**options))


def this_machine(access: Access) -> tuple[str, ...]:
    """The host of the service that is asked, if it is this machine: its recordings may be here, too."""
    url = _DEMO_URL if access.demo else access.base_url or os.environ.get("VOICENTER_BASE_URL", "")
    host = urlsplit(url).hostname or ""
    return (host,) if host in ("127.0.0.1", "::1", "localhost") else ()


def _shared(place: str) -> SqliteLimiter | RedisLimiter:
    """The limiter of all who name the same place."""
    if place.startswith(("redis://", "rediss://", "unix://")):
        return RedisLimiter(place)
    return SqliteLimiter(place)


@asynccontextmanager
async def _demo(query: CdrQuery, recordings: bool) -> AsyncIterator[dict[str, str]]:
    """A made-up call centre on a port of this machine, for as long as the block lasts.

    Its days are the same in every run; those that the query can't see are not made up. So are its records, unless
    their recordings are wanted: then the links lead to the port.
    """
    behaviour = Behaviour(recordings="here" if recordings else "as_stored")
    end = times.now()
    start = max(query.start, end - timedelta(days=times.DEMO_DAYS)) - timedelta(hours=1)
    async with serving(Sandbox(CallCentre(start, end), codes=(SANDBOX_CODE,), behaviour=behaviour)) as url:
        yield {"base_url": url, "code": SANDBOX_CODE}


def _secret(flag: str, path: str) -> str:
    # Neither the path nor a value is shown: a secret given by mistake in place of its file would be.
    try:
        text = sys.stdin.readline() if path == "-" else Path(path).read_text("utf-8")
    except OSError as error:
        raise ConfigurationError(f"The file given by {flag} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"The file given by {flag} holds no text") from None
    if not text.strip():
        raise ConfigurationError(f"There is nothing in what {flag} names")
    return text.strip()
