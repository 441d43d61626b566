"""Serving a sandbox over real HTTP, inside of the running event loop."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from typing import Any, Final

from voicenter_cdr._extras import missing_extra
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.sandbox.faults import ConnectionDroppedError

__all__ = ["serving"]

_LOGGERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")

_levels = {"serving": 0}


@contextlib.asynccontextmanager
async def serving(
    app: Any, *, host: str = "127.0.0.1", port: int = 0, names: Collection[str] = ()
) -> AsyncIterator[str]:
    """Serve an ASGI application while the block runs; yield the address of the Call Log endpoint.

    ``port`` 0 takes a free one. Requests by another name than localhost, an IP address, ``host`` or one of ``names``
    get status 421: otherwise a web page whose name leads to this machine could read the records from a browser (DNS
    rebinding). Needs uvicorn (extra ``sandbox``); raises :class:`ConfigurationError` without it, and if the port is
    taken.
    """
    try:
        import uvicorn
    except ImportError:
        raise missing_extra("uvicorn", "sandbox", "Serving the sandbox") from None

    class _Server(uvicorn.Server):
        """Server that leaves the signals to its program, and waits instead of polling ten times a second."""

        over = asyncio.Event()

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def main_loop(self) -> None:
            await self.over.wait()

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, or asyncio leaves Nagle on
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except socket.gaierror as error:
        listener.close()
        raise ConfigurationError(
            f"There is no host {host} here", hint="Choose 127.0.0.1 or another address."
        ) from error
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"Port {port} of {host} can't be used", hint="Choose another port, or 0 for a free one."
        ) from error
    with _quiet():
        config = uvicorn.Config(
            _guarded(_breaking(app), frozenset(name.lower() for name in ("localhost", host, *names))),
            log_config=None,
            log_level="critical",
            access_log=False,
            lifespan="off",
            date_header=False,
            timeout_graceful_shutdown=1,
        )
        server = _Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started and not task.done():
                await asyncio.sleep(0.01)
            shown = f"[{host}]" if ":" in host else host
            yield f"http://{shown}:{listener.getsockname()[1]}/hub/cdr/"
        finally:
            server.should_exit = True
            server.over.set()
            await task
            listener.close()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Restore the levels of uvicorn's loggers when the last server has ended."""
    if not _levels["serving"]:
        _levels.update({name: logging.getLogger(name).level for name in _LOGGERS})
    _levels["serving"] += 1
    try:
        yield
    finally:
        _levels["serving"] -= 1
        if not _levels["serving"]:
            for name in _LOGGERS:
                logging.getLogger(name).setLevel(_levels[name])


_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::\d*)?", re.ASCII)
"""Host header: a name or an address, and perhaps a port. (``inet_aton`` ignores whatever follows a blank.)"""


def _guarded(app: Any, names: frozenset[str]) -> Any:
    """Wrap an application so that it answers requests by its own names only."""

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        headers = [value.decode("latin-1") for key, value in scope.get("headers", ()) if key == b"host"]
        if scope["type"] == "http" and not all(_is_own(header, names) for header in headers):
            body = b"This sandbox answers by its own names only; name others with serving(names=...)"
            plain = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 421, "headers": plain})
            await send({"type": "http.response.body", "body": body})
            return
        await app(scope, receive, send)

    return guarded


def _is_own(header: str, names: frozenset[str]) -> bool:
    """Return ``True`` for a Host header that no web page of another site can send: an own name, or an IP address."""
    found = _HOST.fullmatch(header)
    name = found[1].strip("[]").lower().rstrip(".") if found else ""
    with contextlib.suppress(OSError):
        return bool(socket.inet_aton(name))
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    return name in names or name.endswith(".localhost")


def _breaking(app: Any) -> Any:
    """Wrap an application so that it can break a connection before its response; uvicorn would answer 500."""

    async def wrapped(scope: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        started = False

        async def watched(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await app(scope, receive, watched)
        except ConnectionDroppedError:
            transport = getattr(getattr(send, "__self__", None), "transport", None)
            if started or transport is None:
                raise
            transport.close()
            while (await receive())["type"] != "http.disconnect":
                pass

    return wrapped
