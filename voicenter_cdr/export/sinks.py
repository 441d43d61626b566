"""Sinks: destinations of records. A file under its own name is complete; an incomplete one is called ``….part``.

A sink of your own needs three methods (:class:`Sink`). Those of this package do not look ahead: how a record is written
never depends on the records before it.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import AsyncIterable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from voicenter_cdr.errors import VoicenterError, strip_tracebacks
from voicenter_cdr.models import Cdr, Page
from voicenter_cdr.pseudonyms import Pseudonymiser

__all__ = ["FileSink", "Sink", "committing", "in_thread", "write_pages"]

P = ParamSpec("P")

T = TypeVar("T")

AnySink = TypeVar("AnySink", bound="Sink")


class Sink(Protocol):
    """Takes records in batches, then either :meth:`commit` or :meth:`abort`."""

    def write(self, records: Sequence[Cdr]) -> None:
        """Take one batch. Called from a worker thread, one call at a time."""
        ...

    def commit(self) -> None:
        """Make the records permanent, now that all are written; atomically where possible."""
        ...

    def abort(self) -> None:
        """Give up, since records are missing; keep the others if they can't be mistaken for a complete result.

        Must not raise, and must do no harm if nothing was written or the sink has ended already.
        """
        ...


class FileSink(Sink, Protocol):
    """A sink that counts the records it has written."""

    written: int
    """Records written so far."""

    @property
    def partial_path(self) -> Path | None:
        """After :meth:`abort`: the file with the records so far, if there is one."""
        ...


@contextmanager
def committing(sink: AnySink) -> Iterator[AnySink]:
    """Commit the sink at the end of the block, abort it if the block raises."""
    try:
        yield sink
        sink.commit()
    except BaseException:
        sink.abort()
        raise


async def write_pages(
    pages: AsyncIterable[Page],
    sink: Sink,
    *,
    keep: Callable[[Cdr], bool] | None = None,
    pseudonymiser: Pseudonymiser | None = None,
    on_page: Callable[[Page], object] | None = None,
) -> int:
    """Write the records of an iteration to a sink, in worker threads; return how many were written.

    ``keep`` chooses among the records, ``pseudonymiser`` then replaces their numbers, ``on_page`` is called with every
    page, as received, that has been written. Commits at the end; aborts on any exception, a cancellation too, and lets
    it through. Closes the iteration, however it ends: nothing more is fetched for a sink that failed.
    """

    def write(records: Sequence[Cdr]) -> None:
        sink.write(records if pseudonymiser is None else pseudonymiser.records(records))

    written, iteration = 0, aiter(pages)
    try:
        async for page in iteration:
            records = page.records if keep is None else tuple(filter(keep, page.records))
            await in_thread(write, records)
            written += len(records)
            if on_page is not None:
                on_page(page)
        await in_thread(sink.commit)
    except BaseException:
        sink.abort()
        raise
    finally:
        close = getattr(iteration, "aclose", None)  # a plain iterator has none
        if close is not None:
            await close()
    return written


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Work in a thread. A thread can't be stopped, so every cancellation waits for it: nothing is closed under it."""
    call = functools.partial(contextvars.copy_context().run, work, *args, **kwargs)
    done = asyncio.get_running_loop().run_in_executor(None, call)  # no task, which the end of the loop could cancel
    cancelled: asyncio.CancelledError | None = None
    while not done.done():
        try:
            await asyncio.wait([done])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        done.exception()  # retrieved, so that asyncio does not log it: the cancellation is raised
        raise cancelled
    try:
        return done.result()
    except (OSError, VoicenterError) as error:
        raise strip_tracebacks(error)  # noqa: B904  # the same error, without the frames that hold records
