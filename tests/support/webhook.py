"""The receiving side of a webhook."""

from __future__ import annotations

from collections.abc import Callable

import httpx


class Hook:
    """A receiver that keeps what it gets, and answers as instructed."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response] | None = None) -> None:
        self.got: list[tuple[httpx.Request, bytes]] = []
        self.answer = answer or (lambda _: httpx.Response(204))

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._take)

    async def _take(self, request: httpx.Request) -> httpx.Response:
        self.got.append((request, await request.aread()))
        return self.answer(request)
