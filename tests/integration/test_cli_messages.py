"""Messages of typical mistakes: what is wrong, in the words of the command line, and a hint."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command_line import Run, Service
from support.examples import sample

from voicenter_cdr.cli import main
from voicenter_cdr.cli.errors import describe_error
from voicenter_cdr.errors import ConfigurationError, DecodeError, RateLimitError, ServiceUnreachableError


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    sample(
        [
            ("exprot", 'Unknown command "exprot"', "Did you mean export? voicenter-cdr --help lists the commands."),
            ("--demo export", "No command before --demo", "The command comes first"),
            ("export --last", "--last needs a value", "voicenter-cdr export --help shows the options."),
            ("export --lsat 7d", "Unknown option: --lsat. Did you mean --last?", "voicenter-cdr export --help"),
            ("sync", "DESTINATION is missing", "voicenter-cdr sync --help"),
            ("export --format foo", "--format takes jsonl, csv, parquet, sqlite, duckdb or xlsx", "export --help"),
            ("count --concurrency x", "--concurrency takes a whole number", "count --help"),
            ("count --last 1d --concurrency 0", "--concurrency must be a whole number, 1 or more", "Nothing was sent."),
            ("count --last 1d --max-wait -1", "--max-wait must be a number, 0 or more", "Nothing was sent."),
            ("count --last 1d --base-url ftp://x", "--base-url must be a complete address", "Nothing was sent."),
            ("count --last 1d --code-file a --token-file b", "are two credentials", "Nothing was sent."),
            ("count --demo --last 1d --share rate.db", "--demo has a rate limit of its own", "Nothing was sent."),
            ("export --last 1d -o x.csv -o y.csv", "is given more than once", "export --help"),
            ("watch --webhook ftp://x", "--webhook must be a complete address", "Nothing was sent."),
            ("sync copy.sqlite", "no start to begin one from", "are wanted: --last 30d, or --from 2026-01-01."),
            ("missed --last 1d -o callers.pdf", "The name of the file shows no format", ".csv, .xlsx"),
            ("report --last 1d --answer-within -1", "--answer-within can't be negative", "Nothing was sent."),
            ("recordings --last 1d -o r/ --downloads 0", "--downloads must be a whole number", "Nothing was sent."),
        ],
        2,
    ),
)
def test_mistake_is_named_with_a_hint_before_any_request(
    service: Service, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, message: str, hint: str
) -> None:
    """The first line says what is wrong and names options; the last is a hint; nothing is sent."""
    monkeypatch.chdir(tmp_path)
    done = run(*words.split())
    first, *_, last = done.err.splitlines()
    assert done.code == 2
    assert message in first
    assert hint in last
    assert service.app.hits == []


@pytest.mark.parametrize(
    ("error", "expected", "unexpected"),
    [
        (RateLimitError.beyond(5, 40), "--max-wait is 5 s", "max_wait"),
        (RateLimitError(1), "--max-wait", "rate_limit"),
        (ServiceUnreachableError("No connection"), "--base-url", "base_url"),
        (DecodeError("A record could not be read"), "--on-invalid collect", "on_invalid"),
        (ConfigurationError("Use full_refresh=True, start=…"), "Use --full-refresh, --from", "full_refresh"),
    ],
)
def test_describe_error_names_options_in_place_of_arguments(error: Exception, expected: str, unexpected: str) -> None:
    """An argument of the Python API becomes the option that stands for it."""
    text = "\n".join(describe_error(error, "export"))
    assert expected in text
    assert unexpected not in text


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("report --demo --interval 20", "--interval takes 15, 30 or 60, not 20"),
        ("count --demo --max-wait=-1", "--max-wait must be a number, 0 or more, not -1"),
        ("count --demo --last 5q", "--last takes a length of time: 90m, 24h, 7d or 2w, not 5q"),
        ("count --demo --from 2026-13-01", "calendar word, not 2026-13-01"),
        ("count --demo --max-wait soon", "--max-wait takes a number, not soon"),
        ("count --demo --last 0521234567", "--last takes a length of time: 90m, 24h, 7d or 2w\n"),
        ("report --demo --interval 0521234567", "--interval takes 15, 30 or 60, not …"),
        ("count --demo --from 052-123-4567", "calendar word\n"),
    ],
)
def test_main_value_is_shown_if_it_can_be_no_secret(words: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Short numbers, dates and words are repeated in the message; what may be a phone number is not."""
    assert main(words.split()) == 2
    assert shown in capsys.readouterr().err.replace('"', "")
