"""The option ``--queue`` of the command ``watch``."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.command_line import Run, Service, record
from support.examples import sample

from voicenter_cdr.cli import periods
from voicenter_cdr.sandbox import Records

NOW = datetime.now(UTC).replace(microsecond=0)
WATCH = ("watch", "--since", "1h", "--for", "1m", "--quiet")
NAMES = ("Sales, North", "Sales", 'חב"ד שירות', "Support")


@pytest.fixture(autouse=True)
def queues(service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    """A service with one call of each queue in the last hour, one of no queue, and one of a queue of last week."""
    rows = [record(NOW - timedelta(minutes=10 + n), QueueName=name) for n, name in enumerate(NAMES)]
    rows += [
        record(NOW - timedelta(minutes=30), QueueName=None, CdrType=4),
        record(NOW - timedelta(days=5), QueueName="Night"),
        record(NOW - timedelta(days=9), QueueName="Closed"),
    ]
    service.holds(Records(rows))
    monkeypatch.setattr(periods, "now", lambda: NOW)
    return service


def _seen(run: Run, *words: str) -> list[str]:
    done = run(*WATCH, *words)
    assert (done.code, done.err) == (0, "")
    return sorted(line["data"]["queue_name"] for line in done.records)


@pytest.mark.parametrize(
    ("words", "found"),
    sample(
        [
            (["--queue", "Sales, North"], ["Sales, North"]),
            (["--queue", " sALES ,north"], ["Sales, North"]),
            (["--queue", "Sales"], ["Sales"]),
            (["--queue", "Sales", "--queue", "support"], ["Sales", "Support"]),
            (["--queue", "Support, Sales"], ["Sales", "Support"]),
            (["--queue", "Support, Sales, North"], ["Sales, North", "Support"]),
            (["--queue", "\u200fחב״ד  שירות\u200f"], ['חב"ד שירות']),
            (["--queue", "Night"], []),
            (["--queue", "Sales", "--type", "queue"], ["Sales"]),
            (["--queue", "Sales", "--phone", "0529999999"], []),
        ],
        2,
        first=1,
    ),
)
def test_watch_queue_by_name_selects_its_calls(run: Run, words: list[str], found: list[str]) -> None:
    """Names are found in any case, with commas and spaces; a queue of this week may have no call yet."""
    assert _seen(run, *words) == found


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--queue", "Slaes"], 'Did you mean "Sales"?'),
        (["--queue", "Billing"], '"Night"'),
        (["--queue", "Sales, Billing"], '"Billing"'),
        (["--queue", "Closed"], "--queue-id"),
        (["--queue", "Sales", "--type", "extension-outgoing"], "--queue-id"),
    ],
)
def test_watch_unknown_queue_is_refused_with_a_hint(run: Run, tmp_path: Path, words: list[str], hint: str) -> None:
    """Exit code 2 before any event, the names that are close, and the way to a queue that is new; no state is left."""
    state = tmp_path / "watch.state"
    done = run(*WATCH, *words, "--state", str(state))
    assert (done.code, done.out) == (2, "")
    assert "no record of the last 7 days has" in done.err
    assert hint in done.err
    assert "--queue-id" in done.err
    assert not state.exists()


def test_watch_unknown_queue_of_an_account_without_records_is_refused(queues: Service, run: Run) -> None:
    """Nothing is known of any queue: that is said, and never watched for."""
    queues.holds(Records([]))
    done = run(*WATCH, "--queue", "Sales")
    assert (done.code, done.out) == (2, "")
    assert "No record of the last 7 days has any." in done.err


@pytest.mark.parametrize(
    "words",
    [
        ("--queue", " "),
        ("--queue", "Sales", "--queue", ""),
        ("--queue", "Sales", "--queue-id", "7"),
        ("--queue", "Sales", "--name", "05212"),
        ("--queue", "Sales", "--sweep", "1s"),
    ],
)
def test_watch_queue_with_invalid_options_sends_nothing(queues: Service, run: Run, words: tuple[str, ...]) -> None:
    """Whatever can be refused is refused before the names are read."""
    assert run("watch", "--for", "1m", *words).code == 2
    assert not queues.app.hits


def test_watch_queue_names_are_read_with_few_fields(queues: Service, run: Run) -> None:
    """The records of a week are read for their queues and what identifies a record, for any phone number."""
    run(*WATCH, "--queue", "Sales", "--phone", "0529999999")
    first = queues.app.hits[0]
    assert "QueueName" in first.fields
    assert not {"RecordURL", "DialStatus", "Duration"} & set(first.fields)
    assert first.total == len(NAMES) + 2


def test_watch_state_is_of_one_choice_of_queues(run: Run, tmp_path: Path) -> None:
    """The same queues, however they are typed, continue; other queues or statuses are refused, and change nothing."""
    state = tmp_path / "watch.state"
    kept = ("--state", str(state))
    assert _seen(run, *kept, "--queue", "Sales,Support") == ["Sales", "Support"]
    assert _seen(run, *kept, "--queue", "SUPPORT", "--queue", "sales") == []
    before = state.read_bytes()
    for other in (["--queue", "Sales"], [], ["--queue", "Sales,Support", "--status", "ANSWER"]):
        done = run(*WATCH, *kept, *other)
        assert (done.code, done.out) == (2, "")
        assert "another choice of --status or --queue" in done.err
    assert state.read_bytes() == before


def test_watch_state_without_a_choice_is_continued(run: Run, tmp_path: Path) -> None:
    """A checkpoint that a program has saved says nothing of a rule, and is taken as it is."""
    state = tmp_path / "watch.state"
    assert len(_seen(run, "--state", str(state), "--type", "queue")) == len(NAMES)
    saved = json.loads(state.read_text())
    del saved["choice"]
    state.write_text(json.dumps(saved))
    assert _seen(run, "--state", str(state), "--type", "queue") == []
