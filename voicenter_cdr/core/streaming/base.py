"""Base of all resumable streams."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, NoReturn, Self, TypeVar

from voicenter_cdr.errors import ConfigurationError, IncompleteError, VoicenterError

__all__ = ["ResumableStream"]

T = TypeVar("T")


class ResumableStream(AsyncIterator[T]):
    """Base of every stream: an async iterator that can be resumed and closed, and that stays failed after an error.

    Iterate under ``contextlib.aclosing`` where you may leave early.
    """

    _running: AsyncGenerator[T, None] | None = None
    _broken: VoicenterError | None = None
    _taking = False

    @property
    @abstractmethod
    def checkpoint(self) -> str:
        """Return the position to resume from (``resume_from=…``)."""

    @abstractmethod
    def _run(self) -> AsyncGenerator[T, None]: ...

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._broken is not None:
            raise self._broken
        if self._taking:
            raise ConfigurationError(
                "This iteration is already waiting for its next item", hint="Let one task at a time iterate over it."
            )
        if self._running is None:
            self._running = self._run()
        self._taking = True
        try:
            return await anext(self._running)
        except StopAsyncIteration:
            raise
        except VoicenterError as error:
            error.checkpoint = self.checkpoint
            self._broken = error
            raise
        except BaseException:
            self._broken = IncompleteError(
                "The iteration was interrupted and can't continue",
                hint="Begin another one with resume_from=checkpoint.",
            )
            self._broken.checkpoint = self.checkpoint
            raise
        finally:
            self._taking = False

    async def aclose(self) -> None:
        """End the iteration: no more requests are sent, and no task is left running."""
        if self._running is not None:
            await self._running.aclose()

    if not TYPE_CHECKING:  # pragma: no branch

        def __await__(self) -> NoReturn:
            raise TypeError("an iteration is not awaited: write 'async for … in …'")

        def __iter__(self) -> NoReturn:
            raise TypeError("records come asynchronously: write 'async for', inside 'async def'")
