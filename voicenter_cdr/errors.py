"""Exceptions of the package, as one tree.

::

    VoicenterError                      catch-all; ``retryable`` says whether trying again later can help
    ├─ ConfigurationError (ValueError)  refused before any request: naive or reversed times, unknown names,
    │                                   no or two credentials, a missing extra
    ├─ ServiceUnreachableError          no usable response within the budget; the cause is chained
    ├─ ApiError                         the service answered with an error number or an error status
    │  ├─ RateLimitError                number 1: more requests than the account may send
    │  ├─ AuthenticationError           number 2: the code or token is not valid
    │  ├─ UntrustedAddressError         number 4: the code may not be used from this address
    │  ├─ OutOfRangeError               number 5: the service refuses the period
    │  └─ ServerError                   status 5xx
    ├─ DecodeError                      a response, or a record in it, could not be read
    ├─ IncompleteError                  the result can't be proven complete
    │  ├─ DenseWindowError              one second holds more records than requests can enumerate
    │  └─ CountMismatchError            the service's own counts contradict what it sent
    ├─ CheckpointError                  a checkpoint that is damaged, foreign or of another query
    ├─ DeliveryError                    a webhook did not accept an event
    └─ RecordingError                   the recording of a call could not be fetched

The text of an error says what happened, for which window (in UTC), and on its last line what to do.
No text ever holds an account code, a token, a phone number or a value of a record.
Every error survives ``pickle`` and ``copy``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, ClassVar, Literal, TypeVar

from attrs import frozen

from voicenter_cdr._times import format_second

__all__ = [
    "ApiError",
    "AuthenticationError",
    "CheckpointError",
    "ConfigurationError",
    "CountMismatchError",
    "DecodeError",
    "DeliveryError",
    "DenseWindowError",
    "IncompleteError",
    "OutOfRangeError",
    "Problem",
    "RateLimitError",
    "RecordingError",
    "ServerError",
    "ServiceUnreachableError",
    "UntrustedAddressError",
    "VoicenterError",
]

Failure = TypeVar("Failure", bound=BaseException)
Result = TypeVar("Result")
TimeSpan = tuple[datetime, datetime]
"""A half-open period ``[start, end)`` of aware datetimes."""


def strip_tracebacks(error: Failure) -> Failure:
    """Return the error without the frames of its tracebacks, and without a suppressed context.

    Local variables in those frames hold requests and responses, and tools that report errors show them.
    """
    todo: list[BaseException | None] = [error]
    seen: list[BaseException] = []
    while todo:
        failed = todo.pop()
        if failed is None or any(failed is other for other in seen):
            continue
        seen.append(failed)
        failed.__traceback__ = None
        if failed.__suppress_context__ and failed.__context__ is not failed.__cause__:
            failed.__context__ = None
        todo += [failed.__cause__, failed.__context__, *getattr(failed, "exceptions", ())]
    return error


async def without_frames(work: Awaitable[Result]) -> Result:
    """Await work whose local variables hold records or secrets; raise its errors without their frames."""
    try:
        return await work
    except BaseException as error:
        raise strip_tracebacks(error)  # noqa: B904  # the same error


@frozen
class Problem:
    """One value of a response that could not be read."""

    path: str
    """JSON path of the value, such as ``$.CDR_LIST[17].Duration``."""
    expected: str
    """Description of the expected value; never the value itself."""

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}"


def _rebuild(kind: type[VoicenterError], args: tuple[Any, ...], state: dict[str, Any]) -> VoicenterError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class VoicenterError(Exception):
    """Root of every error this package raises.

    Attributes, each ``None`` where it does not apply: ``window`` is the requested period, as aware UTC datetimes;
    ``attempts`` the number of requests spent on it; ``retry_after`` the seconds after which a retry makes sense;
    ``checkpoint`` the text to resume an iteration from (``iter_all(query, resume_from=…)``).
    """

    hint: ClassVar[str] = "Report this with the lines above; they hold no secret."
    """Last line of the text: the action to take."""
    _not_pickled: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        window: TimeSpan | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.window = window
        self.attempts: int | None = None
        self.retry_after = retry_after
        self.checkpoint: str | None = None
        self._hint = hint

    @property
    def retryable(self) -> bool:
        """``True`` if the same call can succeed later, unchanged."""
        return False

    def __str__(self) -> str:
        where = "" if self.window is None else f" [{format_second(self.window[0])}, {format_second(self.window[1])})"
        tries = f" after {self.attempts} attempts" if (self.attempts or 0) > 1 else ""
        return f"{self.message}{where}{tries}\n{self._hint or self.hint}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r})"

    def __reduce__(
        self,
    ) -> tuple[Callable[..., VoicenterError], tuple[type[VoicenterError], tuple[Any, ...], dict[str, Any]]]:
        state = {k: v for k, v in self.__dict__.items() if k not in self._not_pickled}
        return _rebuild, (type(self), self.args, state)


class ConfigurationError(VoicenterError, ValueError):
    """A call, option or query that is invalid; no request was spent on it."""

    hint = "Correct the call as the line above says; nothing was sent."


class ServiceUnreachableError(VoicenterError):
    """There was no usable response within the allowed attempts and time. The cause is chained."""

    hint = "Check the network, base_url and timeout, then run it again; nothing was lost."

    def __init__(self, message: str, *, hint: str | None = None, can_heal: bool = True) -> None:
        super().__init__(message, hint=hint)
        self._can_heal = can_heal

    @property
    def retryable(self) -> bool:
        """``False`` if only a person can remove the cause: an untrusted certificate, a proxy's password."""
        return self._can_heal


class ApiError(VoicenterError):
    """The service answered with an error.

    ``number`` is its ERROR_NUMBER (``None`` if the response had only an HTTP status), ``description`` its
    ERROR_DESCRIPTION with long numbers masked, ``status`` the HTTP status.
    The API document lists the error numbers.
    """

    hint = "Look the number up in the Call Log API document, or ask Voicenter's support with it."

    def __init__(
        self,
        number: int | None,
        description: str = "",
        status: int | None = None,
        *,
        hint: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        what = "an error" if number is None else f"error {number}"
        via = "" if status is None else f" (HTTP {status})"
        text = f": {description}" if description else ""
        super().__init__(f"The service answered with {what}{via}{text}", hint=hint, retry_after=retry_after)
        self.number = number
        self.description = description
        self.status = status


class RateLimitError(ApiError):
    """Error 1: the account has sent more requests than it may in the period.

    Also raised, without a request, if no permit comes free within ``max_wait``; ``retry_after`` is then the number
    of seconds until one is expected.
    """

    hint = (
        "Wait for retry_after seconds; if other programs use the same account, share one limiter among "
        "them or lower rate_limit=RateLimit(…)."
    )

    @property
    def retryable(self) -> bool:
        """``True``: the limit is per period."""
        return True

    @classmethod
    def beyond(cls, max_wait: float, retry_after: float) -> RateLimitError:
        """Return the error for a request that was not sent: no permit becomes free within ``max_wait`` seconds."""
        error = cls(1, retry_after=retry_after)
        error.message = f"No request may be sent for another {retry_after:.1f} s, and max_wait is {max_wait:g} s"
        return error

    @classmethod
    def unshared(cls, why: str) -> RateLimitError:
        """Return the error for a request that was not sent: the shared limiter can't be used."""
        error = cls(1, hint="Start the Redis of the shared limit, or make its file writable; then run this again.")
        error.message = f"The shared rate limit can't be read or written ({why})"
        return error


class AuthenticationError(ApiError):
    """Error 2, or status 401 or 403 without a number: the credential is not accepted. Never retried."""

    hint = "Check the account code or the bearer token with Voicenter's back office (whole, not cut, not expired)."


class UntrustedAddressError(ApiError):
    """Error 4: the account does not allow its code to be used from this address. Never retried.

    ``address`` is the address that the service saw, if it reports one.
    """

    def __init__(
        self,
        number: int | None,
        description: str = "",
        status: int | None = None,
        *,
        address: str | None = None,
    ) -> None:
        allow = address or "the address this machine is seen from"
        super().__init__(
            number,
            description,
            status,
            hint=f"Allow {allow} in Voicenter's CPanel (API settings), or use a bearer token, which is "
            "not bound to an address.",
        )
        self.address = address


class OutOfRangeError(ApiError):
    """Error 5: the service refuses the period (fromdate, todate)."""

    hint = "Ask for a shorter or an earlier period; the service says this one is out of range."


class ServerError(ApiError):
    """A status of 500 or more: the service, or a gateway in front of it, failed."""

    hint = "The service is failing; run it again later. Nothing was lost."

    @property
    def retryable(self) -> bool:
        """``True``: such failures are transient."""
        return True


class DecodeError(VoicenterError):
    """A response, or a record in it, could not be read.

    ``problems`` lists JSON paths and expected values, never the values received. ``truncated`` is true if the
    response was cut off or damaged in transit, which is worth a retry. ``page`` (from ``fetch`` only, and
    not pickled) holds the records that could be read.
    """

    hint = 'Use on_invalid="collect" to get the readable records and a list of the others, and report the paths above.'
    _not_pickled = frozenset({"page"})
    page: Any = None

    def __init__(
        self,
        message: str,
        *,
        problems: Sequence[Problem] = (),
        truncated: bool = False,
        status: int | None = None,
        content_type: str | None = None,
        hint: str | None = None,
    ) -> None:
        problems = tuple(problems)
        shown = "; ".join(map(str, problems[:3]))
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        super().__init__(f"{message} ({shown}{more})" if problems else message, hint=hint)
        self.problems = problems
        self.truncated = truncated
        self.status = status
        self.content_type = content_type

    @property
    def retryable(self) -> bool:
        """``True`` if the response was damaged in transit, rather than in an unknown form."""
        return self.truncated


class IncompleteError(VoicenterError):
    """The result can't be proven complete, so the iteration raises instead of ending early in silence."""

    hint = "Don't treat the records so far as complete; run it again, or report it with the lines above."


class DenseWindowError(IncompleteError):
    """More records in one second (with its two neighbours, which every request takes in) than can be proven complete.

    ``window`` is the second, ``hits`` the service's total for it (``None`` if it gives none), ``reached`` the number
    of different records that were received, ``cap`` the number that one response holds.
    """

    hint = "Narrow the query (phones, extensions, queue_ids, cdr_types) so that less falls into this second."

    def __init__(
        self, *, window: TimeSpan | None = None, hits: int | None = None, reached: int = 0, cap: int = 0
    ) -> None:
        number = "an unknown number of" if hits is None else str(hits)
        super().__init__(
            f"One second holds {number} records; {reached} were received, and one response holds {cap}", window=window
        )
        self.hits = hits
        self.reached = reached
        self.cap = cap


class CountMismatchError(IncompleteError):
    """The service's counts contradict the records it sent, also in a second request.

    ``expected`` is the number that the counts promise, ``received`` the number of records received.
    """

    hint = "Records are missing on the service's side; run it again later, and report it if it persists."

    def __init__(self, expected: int, received: int, *, window: TimeSpan | None = None) -> None:
        super().__init__(f"The service counts {expected} records and sent {received}", window=window)
        self.expected = expected
        self.received = received


class CheckpointError(VoicenterError, ValueError):
    """A checkpoint that is damaged, of an unknown version, or of another query. It is left as it is."""

    hint = "Resume with the query that the checkpoint belongs to, or start again without it."


class DeliveryError(VoicenterError):
    """An event was not delivered: its webhook could not be reached or refused it, or the reader closed the pipe.

    ``status`` is the HTTP status of a webhook that refused it, ``retry_after`` the seconds it asked to wait.
    """

    hint = "Look at the receiver's log; a rule retries a webhook for a day."

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
        can_heal: bool = True,
    ) -> None:
        super().__init__(message, hint=hint, retry_after=retry_after)
        self.status = status
        self._can_heal = can_heal

    @property
    def retryable(self) -> bool:
        """Return ``False`` if only a person can remove the cause: an untrusted certificate, a proxy's password."""
        return self._can_heal


class RecordingError(VoicenterError):
    """The recording of a call could not be fetched. At most a ``.part`` file is kept, from which the next run resumes.

    ``status`` is the HTTP status of the response, ``None`` without one. ``is_missing`` is true if there is no recording
    (yet): the record has no link, or the link leads to nothing. ``defect`` is ``"empty"`` for audio without
    sound and ``"truncated"`` for audio that is shorter than its header says; else ``None``.
    """

    hint = "Fetch it again later, with the record as it is then: recordings can appear late, and links change."

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
        is_missing: bool = False,
        defect: Literal["empty", "truncated"] | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message, hint=hint, retry_after=retry_after)
        self.status = status
        self.is_missing = is_missing
        self.defect: Literal["empty", "truncated"] | None = defect
        self._retryable = retryable

    @property
    def retryable(self) -> bool:
        """``True`` if the cause is transient: the network, the rate limit, a failing server."""
        return self._retryable
