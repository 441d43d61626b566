"""Emission of events: each to the user's hook and to the log."""

from __future__ import annotations

import asyncio
import inspect
import logging
import traceback
from pathlib import Path
from typing import Final

from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.events import ClientEvent, EventHook

__all__ = ["EventEmitter"]

_LOG: Final = logging.getLogger("voicenter_cdr")


class EventEmitter:
    """Emitter of events to the log and to a hook. An error of the hook is logged once and does not stop the run.

    Raises :class:`ConfigurationError` for a hook that can't be called, is asynchronous, or is a generator.
    """

    def __init__(self, hook: EventHook | None) -> None:
        if hook is not None and not callable(hook):
            raise ConfigurationError("on_event takes a function of one event")
        kinds = inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction
        if any(is_kind(hook) or is_kind(getattr(hook, "__call__", None)) for is_kind in kinds):  # noqa: B004  # only inspected
            raise ConfigurationError(
                "on_event takes a plain function, neither a coroutine function nor a generator",
                hint="Let it put the event into an asyncio.Queue, and await there.",
            )
        self._hook = hook
        self._has_failed = False

    def __call__(self, event: ClientEvent, message: str = "", *, level: int = logging.DEBUG) -> None:
        """Emit an event. With a message it is logged as well, in a record that has the event's fields."""
        if message and _LOG.isEnabledFor(level):
            _LOG.log(level, "%s", message, extra=event.fields(), stacklevel=2)
        if self._hook is None:
            return
        try:
            result = self._hook(event)
            if inspect.iscoroutine(result):
                result.close()
                raise TypeError("on_event returned a coroutine, which is not awaited")
        except (Exception, asyncio.CancelledError) as error:  # a CancelledError is the hook's own: it awaits nothing
            if not self._has_failed:
                self._has_failed = True
                place = traceback.extract_tb(error.__traceback__)[-1]
                _LOG.error(
                    "on_event raised %s at %s:%s for %s; the run continues, and its further errors are not logged",
                    type(error).__name__,  # its text may hold anything
                    Path(place.filename).name,
                    place.lineno,
                    event.name,
                )
