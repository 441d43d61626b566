"""Exit codes and messages of failures."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from support.command_line import CODE, PHONE, Run, Service

from voicenter_cdr._files import FileLock
from voicenter_cdr.cli.commands import export as records
from voicenter_cdr.sandbox import Fault

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def test_warnings_show_unless_quiet(service: Service, run: Run) -> None:
    """Refusals for the rate and faults that are retried show on standard error, unless --quiet."""
    for flags, lines in (((), 3), (("--quiet",), 0)):
        service.goes_wrong(Fault.refuse(1), Fault(status=500))
        done = run("count", "--last", "7d", *flags)
        assert (done.code, len(done.err.splitlines())) == (0, lines)
    service.goes_wrong(Fault.refuse(1))
    assert "all requests wait" in run("count", "--last", "7d").err


@pytest.mark.parametrize(
    ("fault", "behaviour", "code", "name"),
    [
        (Fault.refuse(2), {}, 3, "AuthenticationError"),
        (Fault.refuse(4), {}, 3, "UntrustedAddressError"),
        (Fault.refuse(5), {}, 5, "OutOfRangeError"),
        (Fault.refuse(17), {}, 5, "ApiError"),
        (Fault(status=500), {}, 5, "ServerError"),
        (Fault(drop=True), {}, 5, "ServiceUnreachableError"),
        (Fault.truncate(40), {}, 5, "DecodeError"),
        (Fault.page(200), {}, 4, "DecodeError"),
        (Fault(bad_row=1), {}, 4, "DecodeError"),
        (Fault(lose_rows=1), {}, 4, "CountMismatchError"),
        (None, {"offset_hours": 2.0}, 4, "IncompleteError"),
        (Fault.refuse(1), {}, 6, "RateLimitError"),
    ],
)
def test_exit_code_shows_the_kind_of_failure(
    service: Service, run: Run, fault: Fault | None, behaviour: dict[str, Any], code: int, name: str
) -> None:
    """Every kind of failure has its exit code, and says what to do on its last line, or as one object."""
    words = ("export", "--from", "2026-07-12T13:00", "--to", "2026-07-15T11:00:01", "--max-wait", "9999")
    service.goes_wrong(then=fault, **behaviour)
    done = run(*words)
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    service.goes_wrong(then=fault, **behaviour)
    as_json = run(*words, "--error-format", "json").error
    assert (as_json["error"], as_json["exit_code"]) == (name, code)
    assert as_json["hint"] == done.err.splitlines()[-1]
    assert CODE not in done.err


@pytest.mark.parametrize("place", ["notes.txt", "nowhere/budget.db"])
def test_shared_limit_that_cannot_be_used_is_exit_code_6(
    service: Service, run: Run, tmp_path: Path, place: str
) -> None:
    """Waiting does not help: the last line is a hint; where a permit comes too late, it names --max-wait."""
    (tmp_path / "notes.txt").write_text("no database, but a text that is long enough to be taken for one" * 20)
    done = run("count", "--last", "7d", "--share", str(tmp_path / place))
    assert (done.code, service.app.hits) == (6, [])
    assert "make its file writable" in done.err.splitlines()[-1]
    service.goes_wrong(then=Fault.refuse(1))
    assert "--max-wait" in run("export", "--last", "7d", "--max-wait", "1").err.splitlines()[-1]


def test_shared_limit_of_an_unknown_scheme_is_refused_as_usage(service: Service, run: Run) -> None:
    """An address that is not Redis's is no name of a file."""
    done = run("count", "--last", "7d", "--share", "memcached://cache/0")
    assert (done.code, service.app.hits) == (2, [])
    assert "redis://" in done.err


def test_error_as_json_has_always_the_same_keys(service: Service, run: Run, tmp_path: Path) -> None:
    """The object holds what a program needs to continue, and always the same keys."""
    service.goes_wrong(then=Fault.refuse(1))
    path = tmp_path / "a.csv"
    error = run("export", "--last", "7d", "-o", str(path), "--max-wait", "1", "--error-format=json").error
    keys = ["error", "message", "hint", "number", "window", "retry_after", "checkpoint", "kept", "exit_code"]
    assert list(error) == keys
    assert (error["number"], error["window"]) == (1, ["2026-07-08T12:00:00Z", "2026-07-15T12:00:00Z"])
    assert error["retry_after"] > 0
    assert json.loads(error["checkpoint"])["version"] == 3
    assert list(run("nonsense", "--error-format", "json").error) == keys


@pytest.mark.usefixtures("service")
def test_unexpected_error_shows_no_value(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected error is exit code 1 and shows where it happened, but not its text, which could be a value."""

    async def broken(*_: object, **__: object) -> int:
        raise KeyError(PHONE)

    monkeypatch.setattr(records, "write_pages", broken)
    done = run("export", "--last", "7d")
    assert done.code == 1
    assert "Unexpected KeyError" in done.err
    assert "in broken" in done.err
    assert PHONE not in done.err


@POSIX
@pytest.mark.usefixtures("service")
def test_destination_in_use_is_exit_code_7(run: Run, tmp_path: Path) -> None:
    """A crontab can tell that the last night's run is still at work from everything that needs a look."""
    with FileLock(tmp_path / "calls.sqlite"):
        for words in (("sync", str(tmp_path / "calls.sqlite")), ("export", "-o", str(tmp_path / "calls.sqlite"))):
            done = run(*words, "--last", "7d")
            assert done.code == 7
            assert "calls.sqlite: another program is writing it" in done.err


def test_quiet_shows_no_warnings(service: Service, run: Run) -> None:
    """Not even what Python says of itself where nobody listens: a crontab would mail it."""
    service.goes_wrong(Fault.refuse(1), Fault(status=503))
    done = run("export", "--last", "7d", "--quiet")
    assert (done.code, done.err, len(done.records)) == (0, "", 4)
    service.goes_wrong(Fault.refuse(1), Fault(status=503))
    loud = run("export", "--last", "7d").err
    assert "rate limit exceeded" in loud
    assert "HTTP 503" in loud
