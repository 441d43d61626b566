"""Standard output and standard error: UTF-8, without control characters on a terminal."""

from __future__ import annotations

import io
import json
import logging
import sys
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples

from voicenter_cdr.cli.console import (
    echo_err,
    encode_utf8,
    escape_controls,
    log_to_stderr,
    pluralize,
    stdout_for_records,
    terminal_stream,
    write_stdout,
)
from voicenter_cdr.cli.options import OutputOptions
from voicenter_cdr.core.http.emitter import EventEmitter
from voicenter_cdr.events import RequestSent

HOSTILE = "Sales\x1b]0;owned\x1b\\\x1b[2J\u009b31m\u202eabc\x7f\ud83d"


class Terminal(io.TextIOWrapper):
    """Standard output that is a terminal of some encoding."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding)

    def isatty(self) -> bool:
        return True

    @property
    def written(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode()  # type: ignore[attr-defined]


@examples(60)
@given(st.text())
def test_escape_controls_leaves_nothing_a_terminal_acts_on(text: str) -> None:
    """No control, no mark of direction and no half of a surrogate pair is left; all else is as it was."""
    shown = escape_controls(text)
    kinds = {unicodedata.category(c) for c in shown if c not in "\t\n"}
    assert not kinds & {"Cc", "Cs", "Zl", "Zp"}
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    plain = "".join(c for c in text if c.isprintable())
    if plain == text:
        assert shown == text
    assert "\n" not in escape_controls(text, keep="")


def test_write_stdout_on_a_terminal_escapes_controls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name in a record can't retitle a window, clear a screen or turn text around."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    write_stdout(f"{HOSTILE}\n")
    assert "\\x1b]0;owned" in terminal.written
    assert not set("\x1b\u009b\u202e\x7f") & set(terminal.written)


def test_write_stdout_to_a_file_keeps_data_as_it_is(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """Data for programs is not changed, but for what UTF-8 has no bytes for."""
    write_stdout(f"{HOSTILE}\n")
    assert capsysbinary.readouterr().out == encode_utf8(f"{HOSTILE}\n")


def test_stdout_for_records_on_a_terminal_escapes_controls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that a sink writes in pieces cut anywhere reach the terminal whole and harmless."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    stream = stdout_for_records()
    assert not isinstance(stream, str)
    for byte in "שלום \x1b[31m\nend".encode():
        stream.write(bytes([byte]))
    stream.flush()
    assert terminal.written == "שלום \\x1b[31m\nend"


def test_stdout_for_records_elsewhere_is_standard_output() -> None:
    """In a pipe or a file, records are written as they are."""
    assert stdout_for_records() == "-"


def test_echo_err_escapes_controls(capsys: pytest.CaptureFixture[str]) -> None:
    """Messages may quote what the service said; it can't steer the terminal."""
    echo_err(f"{HOSTILE}\nsecond line")
    err = capsys.readouterr().err
    assert not set("\x1b\u009b\u202e") & set(err)
    assert err.endswith("\nsecond line\n")


def test_json_logs_hold_the_fields_of_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    """Fields that a log record carries are keys of its line, times in UTC."""
    with log_to_stderr(OutputOptions(json_logs=True)):
        fields = {"event": "window", "rows": 3, "start": datetime(2026, 7, 1, tzinfo=UTC)}
        logging.getLogger("voicenter_cdr").info("a window of %d rows", 3, extra=fields)
    line = json.loads(capsys.readouterr().err)
    assert line["message"] == "a window of 3 rows"
    assert (line["event"], line["rows"], line["start"]) == ("window", 3, "2026-07-01T00:00:00Z")
    assert set(line) == {"time", "level", "message", "event", "rows", "start"}


def test_pluralize_counts_things() -> None:
    """One thing is singular, all other numbers are plural and grouped."""
    assert [pluralize(n, "day") for n in (0, 1, 1_200)] == ["0 days", "1 day", "1,200 days"]


def test_terminal_stream_is_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that watch writes to a terminal are harmless there; a pipe gets them as they are."""
    assert terminal_stream() is None
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    stream = terminal_stream()
    assert stream is not None
    stream.write(f'{{"queue":"{HOSTILE}"}}\n'.encode("utf-8", "backslashreplace"))
    assert not set("\x1b\u009b\u202e\x7f") & set(terminal.written)


def test_log_to_stderr_json_line_holds_the_fields_of_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    """Every event is a line of ``--json-logs``: its name, its fields, its window as two times."""
    window = datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 7, 2, tzinfo=UTC)
    sent = RequestSent(operation="0123456789abcdef", window=window, attempt=2)
    with log_to_stderr(OutputOptions(json_logs=True)):
        EventEmitter(None)(sent, "asking")
        EventEmitter(None)(sent)  # without a message it is for the hook alone
    line = json.loads(capsys.readouterr().err)
    del line["time"]
    assert line == {
        "level": "DEBUG",
        "message": "asking",
        "event": "request_sent",
        "operation": "0123456789abcdef",
        "window_start": "2026-07-01T00:00:00Z",
        "window_end": "2026-07-02T00:00:00Z",
        "attempt": 2,
    }
