"""One run of ``watch``: a stream of events, and the files that hold their state."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from voicenter_cdr._files import write_atomic
from voicenter_cdr.cli.console import pluralize
from voicenter_cdr.errors import DeliveryError, IncompleteError

if TYPE_CHECKING:
    from voicenter_cdr.core.streaming.rules import Delivery
    from voicenter_cdr.core.streaming.watch import WatchStream
    from voicenter_cdr.handlers import DeadLetterFile

__all__ = ["WatchRun"]

_LOG: Final = logging.getLogger("voicenter_cdr")

_SAVED_EVERY: Final = 5.0
"""Seconds between two savings of the state while there are events."""


class WatchRun:
    """One run of a watch: its stream, its state file and its dead-letter file."""

    def __init__(
        self,
        stream: WatchStream,
        state: Path | None,
        choice: str,
        dead_letters: DeadLetterFile | None,
        *,
        stops_at_failure: bool,
    ) -> None:
        self.dead_lettered = 0
        self._stream = stream
        self._state = state
        self._choice = choice
        self._dead_letters = dead_letters
        self._stops_at_failure = stops_at_failure

    async def work(self, seconds: float | None) -> None:
        """Run for this number of seconds, or until the stream ends. The state is saved in any case.

        Raises :class:`IncompleteError` if events were not delivered.
        """
        tasks = set[asyncio.Task[None]]()
        if self._state is not None:  # before any event, so that their ids stay the same if it is killed
            tasks.add(asyncio.create_task(self._save_regularly()))
        tasks.add(asyncio.create_task(self._consume()))
        try:
            ended, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()  # the one that failed raises its reason
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._save()
        self._check()

    async def _consume(self) -> None:
        async with aclosing(self._stream) as deliveries:
            async for delivery in deliveries:
                if delivery.error is not None:
                    await self._append_dead_letter(delivery)
                    if self._stops_at_failure:
                        raise _output_failure(delivery.error)

    async def _append_dead_letter(self, delivery: Delivery) -> None:
        """Append an event that was given up to the dead-letter file, and only then drop it from the checkpoint."""
        if self._dead_letters is not None:
            await self._dead_letters.append(delivery.event)
            self._stream.discard(delivery.event)
            self.dead_lettered += 1

    async def _save_regularly(self) -> None:
        """Save the state every few seconds while it changes. A failure is logged and retried."""
        before = None
        while True:
            now = attrs.evolve(self._stream.stats, waiting=0), self.dead_lettered
            if now != before and self._try_to_save():
                before = now
            await asyncio.sleep(_SAVED_EVERY)

    def _try_to_save(self) -> bool:
        try:
            self._save()
        except OSError as error:
            _LOG.warning("the state could not be saved (%s); trying again", error.strerror or type(error).__name__)
            return False
        return True

    def _save(self) -> None:
        if self._state is not None:
            saved = self._stream.checkpoint.removesuffix("}") + f', "choice": "{self._choice}"}}'
            write_atomic(self._state, saved.encode())

    def _check(self) -> None:
        stats = self._stream.stats
        undelivered = stats.fired - stats.delivered - self.dead_lettered
        if not undelivered:
            return
        what = f"{pluralize(undelivered, 'event')} could not be delivered"
        if self._state is None:
            raise IncompleteError(what, hint="Nothing holds them: with --state the next run would deliver them.")
        raise IncompleteError(what, hint="The state holds them: the same command delivers them.")


def _output_failure(error: Exception) -> DeliveryError:
    if isinstance(error, BrokenPipeError):
        return DeliveryError(
            "The reader of standard output is gone",
            hint="Restart the reader and this command: with --state it continues with the events not yet written.",
        )
    why = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    return DeliveryError(
        f"Standard output could not be written ({why})",
        hint="Make room, then run the same command: with --state it continues with the events not yet written.",
    )
