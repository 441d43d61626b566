"""Transport from a client to a sandbox without a network."""

from __future__ import annotations

import httpx

from voicenter_cdr.core.http.transport import SENDING
from voicenter_cdr.sandbox import ConnectionDroppedError, Sandbox

__all__ = ["in_process"]


class _InProcess(httpx.AsyncBaseTransport):
    def __init__(self, app: Sandbox) -> None:
        self._inner = httpx.ASGITransport(app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if "trace" in request.extensions:
            await request.extensions["trace"](SENDING, {})
        try:
            return await self._inner.handle_async_request(request)
        except ConnectionDroppedError as error:
            raise httpx.ReadError("the service broke the connection") from error


def in_process(app: Sandbox) -> httpx.AsyncBaseTransport:
    """Return a ``transport`` for :class:`~voicenter_cdr.CdrClient` that calls the sandbox directly.

    A connection that the sandbox drops looks as it would on a network. Faults that break a body off in the middle
    need real sockets: use :func:`~voicenter_cdr.sandbox.serving` for those.
    """
    return _InProcess(app)
