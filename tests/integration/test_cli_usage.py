"""Options and usage errors: invalid ones are refused before a request."""

from __future__ import annotations

import io
import subprocess
import sys
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import pytest
from support.command_line import CODE, PHONE, Run, Service
from support.examples import sample

import voicenter_cdr
from voicenter_cdr import CdrField, CdrQuery, CdrType, IdentityCriteria
from voicenter_cdr.cli.app import COMMANDS
from voicenter_cdr.cli.commands import count as counting
from voicenter_cdr.sandbox import Fault


@pytest.mark.parametrize(
    ("flag", "value"),
    sample(product(["--phone", "--extension", "--type", "--status", "--fields"], ["", " ", "a,,b", ","]), 3),
)
def test_options_empty_value_is_refused(service: Service, run: Run, flag: str, value: str) -> None:
    """A variable of the shell that is not set never asks for everything."""
    done = run("export", "--last", "7d", flag, value)
    assert (done.code, done.out, service.app.hits) == (2, "", [])
    assert f"{flag} holds an empty value" in done.err


def test_usage_unexpected_argument_names_the_commands_help(run: Run) -> None:
    """The hint names the command's own help."""
    done = run("export", "--last", "1d", "november.csv")
    assert done.code == 2
    assert "--output" in done.err
    assert done.err.splitlines()[-1] == "voicenter-cdr export --help shows the options."
    assert run("sandbox", "--port", "80000").code == 2
    assert run("sandbox", "--host", "no.such.host.invalid", "--port", "0", "--days", "1").code == 2


def test_options_cover_every_filter_of_a_query(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """Every filter of a query can be said."""
    seen: list[CdrQuery] = []

    async def counted(query: CdrQuery, *_: object) -> int:
        seen.append(query)
        return 0

    monkeypatch.setattr(counting, "_count", counted)
    flags = (
        "--from 2026-07-01 --to 2026-07-02 --type queue,99 --phone 0521234567,0541111111 --phone 03 --extension a,b "
        "--identity hierarchical --call-id x1 --queue-id 5 --queue-id 6 --campaign-id 7"
    )
    assert run("count", *flags.split()).code == 0
    assert seen == [
        CdrQuery(
            datetime(2026, 7, 1, tzinfo=UTC),
            datetime(2026, 7, 2, tzinfo=UTC),
            cdr_types=[CdrType.QUEUE, 99],
            phones=["0521234567", "0541111111", "03"],
            extensions=["a", "b"],
            identity=IdentityCriteria.HIERARCHICAL,
            call_id="x1",
            queue_ids=[5, 6],
            campaign_ids=[7],
            fields=[CdrField.CALL_ID],
        )
    ]


@pytest.mark.parametrize(
    ("flags", "hint"),
    sample(
        [
            ("export --nope --last 7d", "--nope"),
            ("exprt", "exprt"),
            ("export --last 7d --type quee", "Did you mean queue?"),
            ("export --last 7d --status ANSWERD", "Did you mean ANSWER?"),
            ("export --last 7d --identity nobody", "Unknown identity"),
            ("export --last 7d --fields durration", "Did you mean 'duration'"),
            ("export --last 7d --order up", "--order"),
            ("export --last 7d --queue-id abc", "--queue-id"),
            ("export --last 7d --concurrency 0", "concurrency must be"),
            ("export --last 7d -o x.json", "name it .jsonl"),
            ("export --last 7d -o /nowhere/at/all.csv", "does not exist"),
            ("export --last 7d --base-url http://example.com/", "must be https"),
            ("export --last 7d --code-file /nowhere/at/all", "can't be read"),
            ("export --demo --base-url https://example.com/", "leave out"),
            ("sandbox --days 0", "--days takes"),
            ("sandbox --data /nowhere/at/all", "can't be read"),
        ],
        2,
    ),
)
def test_usage_error_is_exit_code_2_with_a_hint(service: Service, run: Run, flags: str, hint: str) -> None:
    """Invalid usage is refused with exit code 2 and a hint; nothing is sent."""
    done = run(*flags.split())
    assert (done.code, done.out) == (2, "")
    assert hint in done.err
    assert service.app.hits == []


CREDENTIALS = [
    ("export", "--last", "7d", "--code", CODE),
    ("export", "--last", "7d", f"--token={CODE}"),
    ("export", "--last", "7d", "--api-code", CODE),
    ("export", "--last", "7d", f"--bearer-token={CODE}"),
    ("export", "--last", "7d", "--API_KEY", CODE),
    ("export", CODE, "--last", "7d"),
    ("export", "--last", "7d", "--auth", CODE),
    ("export", "--last", "7d", f"--auth={CODE}"),
    ("export", "--last", "7d", "--queue-id", CODE),
    ("export", "--last", CODE),
    ("export", "--last", "7d", "--type", CODE),
    ("export", "--last", "7d", "--status", CODE),
    ("export", "--last", "7d", "--code-file", CODE),
    ("export", "--from", CODE),
    ("export", "--last", "7d", "--tz", CODE),
    ("export", "--last", "7d", "--order", CODE),
    (CODE,),
]
"""Commands with a credential where none belongs."""


@pytest.mark.parametrize(
    ("form", "words"),
    sample(
        [
            (form, words)
            for number, words in enumerate(CREDENTIALS)
            for form in (["text", "json"] if number % 2 else ["json", "text"])
        ],
        2,
    ),
)
@pytest.mark.usefixtures("service")
def test_usage_error_never_repeats_a_credential(run: Run, form: str, words: tuple[str, ...]) -> None:
    """Whatever is typed where, an error never repeats a credential; a flag for one is refused."""
    extra = ("--error-format", form) if words[0] == "export" else ()
    done = run(*words, *extra)
    assert done.code == 2
    assert CODE not in done.out + done.err
    if any(word.startswith(("--code=", "--code", "--token")) and word != "--code-file" for word in words):
        assert "VOICENTER_API_CODE" in done.err


def test_messages_never_repeat_a_phone_number(service: Service, run: Run) -> None:
    """No message and no summary repeats a phone number."""
    for words in (
        ("--phone", PHONE),
        (PHONE,),
        ("--queue-id", f"x{PHONE}"),
        ("--from", PHONE),
        ("--type", f"t{PHONE}"),
    ):
        assert PHONE not in run("export", "--last", "7d", *words).err
    service.goes_wrong(then=Fault.refuse(2))
    assert PHONE not in run("export", "--last", "7d", "--phone", PHONE).err


@pytest.mark.usefixtures("service")
def test_command_without_a_credential_names_the_variables(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a credential the error names the variables to set."""
    monkeypatch.delenv("VOICENTER_API_CODE")
    done = run("export", "--last", "7d")
    assert done.code == 2
    assert "VOICENTER_API_CODE" in done.err


@pytest.mark.usefixtures("service")
def test_credentials_come_from_files_or_standard_input(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A code or a token can come from a file or from standard input, and wins over the environment."""
    monkeypatch.setenv("VOICENTER_API_CODE", "another")
    file = tmp_path / "code"
    file.write_text(f"{CODE}\n")
    assert run("count", "--last", "7d", "--code-file", str(file)).out == "4\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{CODE}\n"))
    assert run("count", "--last", "7d", "--code-file", "-").out == "4\n"
    file.write_text("sandbox-token")
    assert run("count", "--last", "7d", "--token-file", str(file)).out == "4\n"
    file.write_text(" \n")
    assert run("count", "--last", "7d", "--code-file", str(file)).code == 2
    file.write_bytes(b"\xff\xfe")
    assert run("count", "--last", "7d", "--code-file", str(file)).code == 2


def test_help_names_the_commands_and_version_the_version(run: Run) -> None:
    """Help names every command, also by its command; --version shows the version; both are data."""
    assert run("--version").out.strip() == voicenter_cdr.__version__
    text = run("--help").out
    assert all(name in text for name in ("export", "count", "missed", "report", "recordings", "sandbox"))
    assert run("help").out == text
    assert run("help", "nonsense").code == 2


@pytest.mark.parametrize("command", sample(["export", "count", "report", "recordings"], 4))
def test_help_of_a_command_shows_every_flag(run: Run, command: str) -> None:
    """Help shows every flag with examples, as wide as a terminal; help is a command, too."""
    text = run(command, "--help").out
    assert all(flag in text for flag in ("--from", "--tz", "--type", "--demo", "Examples:", f"voicenter-cdr {command}"))
    assert max(map(len, text.splitlines())) <= 80
    assert run("help", command).out == text


def test_command_without_the_extra_names_it() -> None:
    """Without the extra, the message says what to install."""
    code = "import sys; sys.modules['cyclopts'] = None; from voicenter_cdr.cli import main; sys.exit(main(['export']))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "The command line needs cyclopts, which is not installed\nInstall it: pip install 'voicenter-cdr[cli]'\n"
    )


@pytest.mark.parametrize(
    ("flags", "hint"),
    sample(
        [
            (
                "--tz Asia/Jerusalem --from 2026-03-27T02:30",
                "Use 2026-03-27T01:30:00+02:00 or 2026-03-27T03:30:00+03:00.",
            ),
            ("--from yesterdy", "Did you mean yesterday?"),
            ("--from 01/11/2026", "Did you mean 2026-11-01?"),
            ("--period lastmonth", "Did you mean last-month?"),
            ("--month 2026-13", "--month takes a year and a month"),
            ("--month 2026-08", "has not begun"),
            ("--last month", "use --period last-month"),
            ("--month 2026-06 --last 7d", "leave out --month"),
            ("--period today --to 1d", "is a whole period"),
            ("--from 1d --tz IST", "Did you mean Asia/Jerusalem?"),
            ("--from 2026-02-30", "--from takes a date"),
            ("--from 1d --to 5", "--to takes a date"),
            ("--last 5", "--last takes a length of time"),
            ("--last 999999999w", "outside the years"),
            ("--last 99999999999999999999w", "outside the years"),
            ("--tz Asia/Jerusalem --from 0001-01-01", "outside the years"),
            ("--last 7d --from 2026-07-01", "--last is a whole period"),
            ("--last 7d --to 1d", "--last is a whole period"),
            ("--from 1d --to 2d", "--from must lie before --to"),
            ("--from 2027-01-01", "--from must lie before now"),
            ("--from 1d --tz Mars/Olympus", "--tz (VOICENTER_TZ) takes"),
            ("--from 1d --tz ../etc", "--tz (VOICENTER_TZ) takes"),
            ("", "No period"),
            ("--to 2026-07-01", "No period"),
        ],
        3,
    ),
)
def test_period_that_cannot_be_is_refused_before_a_request(service: Service, run: Run, flags: str, hint: str) -> None:
    """A time that is none, or never was, is refused before anything is sent, with what would do."""
    done = run("export", *flags.split())
    assert (done.code, done.out) == (2, "")
    assert hint in done.err
    assert service.app.hits == []


@pytest.mark.usefixtures("service")
def test_period_zone_comes_from_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """VOICENTER_TZ is the zone where --tz is not given."""
    monkeypatch.setenv("VOICENTER_TZ", "Asia/Jerusalem")
    assert "2026-06-30T21:00:00Z to " in run("count", "--from", "2026-07-01").err
    assert "2026-07-01T00:00:00Z to " in run("count", "--from", "2026-07-01", "--tz", "UTC").err


@pytest.mark.parametrize("command", sample([name for name in COMMANDS if name != "export"], 4))
def test_help_leads_with_examples(run: Run, command: str) -> None:
    """Examples come before the flags."""
    text = run("help", command).out
    assert text.index("Examples:") < text.index("Usage:") < text.index("╭")
