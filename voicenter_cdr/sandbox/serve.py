"""Serving a sandbox over real HTTP, inside of the running event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

from voicenter_cdr.errors import ConfigurationError

__all__ = ["serving"]


@contextlib.asynccontextmanager
async def serving(app: Any, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve an ASGI application while the block runs; gives the address of the Call Log endpoint.

    ``port`` 0 takes a free one. Needs uvicorn (extra ``sandbox``); raises :class:`ConfigurationError` without it, and
    where the port can't be had.
    """
    try:
        import uvicorn
    except ImportError:
        raise ConfigurationError(
            "Serving the sandbox needs uvicorn", mend="Install it: pip install 'voicenter-cdr[sandbox]'"
        ) from None

    class _Server(uvicorn.Server):
        """Leaves the signals to the program it runs in, and waits instead of looking ten times a second."""

        over = asyncio.Event()

        @contextlib.contextmanager
        def capture_signals(self) -> Any:
            yield

        async def main_loop(self) -> None:
            await self.over.wait()

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"Port {port} of {host} can't be used", mend="Choose another port, or 0 for a free one."
        ) from error
    config = uvicorn.Config(
        app,
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
