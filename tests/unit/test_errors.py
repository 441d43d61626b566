"""The errors: one tree, picklable, with a hint on the last line."""

from __future__ import annotations

import copy
import inspect
import pickle
from datetime import UTC, datetime

import pytest

from voicenter_cdr import Problem, errors
from voicenter_cdr.errors import (
    ApiError,
    AuthenticationError,
    CheckpointError,
    ConfigurationError,
    CountMismatchError,
    DecodeError,
    DeliveryError,
    DenseWindowError,
    IncompleteError,
    OutOfRangeError,
    RateLimitError,
    RecordingError,
    ServerError,
    ServiceUnreachableError,
    UntrustedAddressError,
    VoicenterError,
)

WINDOW = (datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 7, 2, tzinfo=UTC))

EXAMPLES: list[VoicenterError] = [
    VoicenterError("something"),
    ConfigurationError("phones takes a list"),
    ServiceUnreachableError("no answer"),
    ApiError(9, "odd", 200),
    RateLimitError(1, "slow down", 403, retry_after=12.5),
    RateLimitError.beyond(5.0, 40.0),
    AuthenticationError(2, "no", 403),
    UntrustedAddressError(4, "IP address 1.2.3.4 is not trusted.", 403, address="1.2.3.4"),
    OutOfRangeError(5, "Out of range", 404),
    ServerError(None, "", 502),
    DecodeError("unreadable", problems=[Problem("$.CDR_LIST[3].Duration", "a whole number")] * 5, truncated=True),
    IncompleteError("holes", window=WINDOW),
    DenseWindowError(window=WINDOW, hits=30_000, reached=20_000, cap=10_000),
    CountMismatchError(500, 497, window=WINDOW),
    CheckpointError("torn"),
    DeliveryError("The webhook answered with status 500"),
    RecordingError("slow down", status=429, retry_after=30.0, retryable=True),
]


def ids(error: VoicenterError) -> str:
    return type(error).__name__


@pytest.mark.parametrize("error", EXAMPLES, ids=ids)
def test_error_survives_pickle_and_copy(error: VoicenterError) -> None:
    """Type, text and everything a program needs come back."""
    error.window, error.attempts, error.checkpoint = WINDOW, 3, "{}"
    for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(copied) is type(error)
        assert str(copied) == str(error)
        assert copied.args == error.args
        assert vars(copied) == vars(error)
        assert copied.retryable is error.retryable


@pytest.mark.parametrize("error", EXAMPLES, ids=ids)
def test_error_text_ends_with_a_hint(error: VoicenterError) -> None:
    """Two lines: what happened and where, and what a person should do."""
    first, last = str(error).splitlines()
    assert first.startswith(error.message)
    assert len(last) > 20
    assert last != VoicenterError.hint or type(error) is VoicenterError
    assert error.message in repr(error)


def test_error_tree_is_the_one_drawn() -> None:
    """Every class of the tree stands in the module's drawing, under its parent, and in __all__."""
    drawn = [line for line in (errors.__doc__ or "").splitlines() if "Error" in line and line.startswith("    ")]
    classes = {
        name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, VoicenterError)
    }
    assert {line.strip(" │├└─").split()[0] for line in drawn} == set(classes)
    assert set(classes) | {"Problem"} == set(errors.__all__)
    assert {type(example) for example in EXAMPLES} == set(classes.values())


def test_error_retryable_is_what_can_pass() -> None:
    """Only what can pass: the network, the rate, a failing server, a damaged answer, a webhook that is down."""
    retryable = {type(error) for error in EXAMPLES if error.retryable}
    assert retryable == {
        ServiceUnreachableError,
        RateLimitError,
        ServerError,
        DecodeError,
        DeliveryError,
        RecordingError,
    }
    assert not DecodeError("not JSON").retryable
    assert not RecordingError("no audio").retryable


def test_error_text_names_window_and_attempts() -> None:
    """The window in UTC and the number of attempts, where there are any."""
    error = ServiceUnreachableError("No answer")
    assert "attempts" not in str(error)
    error.window, error.attempts = WINDOW, 5
    assert "No answer [2026-07-01T00:00:00Z, 2026-07-02T00:00:00Z) after 5 attempts" in str(error)


def test_decode_error_many_problems_are_cut_short() -> None:
    """A page full of unreadable records makes no endless text."""
    error = DecodeError("bad", problems=[Problem(f"$.CDR_LIST[{n}].Price", "an amount") for n in range(10_000)])
    assert len(str(error)) < 500
    assert "and 9997 more" in str(error)
    assert len(error.problems) == 10_000


def test_decode_error_page_is_not_pickled() -> None:
    """Records hold numbers; an error that travels does not take them along."""
    error = DecodeError("bad")
    error.page = "the records"
    assert pickle.loads(pickle.dumps(error)).page is None


def test_error_text_holds_the_numbers_needed() -> None:
    """The numbers a person needs are in the text."""
    assert "30000" in str(DenseWindowError(window=WINDOW, hits=30_000, reached=20_000, cap=10_000))
    assert "unknown number" in str(DenseWindowError(window=WINDOW))
    assert "error 9 (HTTP 200): odd" in str(ApiError(9, "odd", 200))
    assert "an error" in str(ApiError(None))
    assert "40.0 s" in str(RateLimitError.beyond(5.0, 40.0))
    assert "the address this machine is seen from" in str(UntrustedAddressError(4))
