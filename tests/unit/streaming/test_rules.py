"""Rules: which records they match, and which values they refuse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from voicenter_cdr import CdrType, ConfigurationError, DialStatus, Event, Rule
from voicenter_cdr.testing import make_record

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


def act(_: Event) -> None:
    """Handle an event."""


def test_rule_matches_by_type_status_and_predicate() -> None:
    """All conditions have to hold; one that is left out holds for every record."""
    record = make_record(at=NOW, CdrType=8, DialStatus="ABANDONE", Duration=3)
    for options, expected in (
        ({}, True),
        ({"types": [CdrType.QUEUE]}, True),
        ({"types": [8, 4], "statuses": ["ABANDONE"]}, True),
        ({"types": [4]}, False),
        ({"types": [8], "statuses": [DialStatus.FULL]}, False),
        ({"where": lambda cdr: cdr.duration == 3}, True),
        ({"types": [8], "where": lambda cdr: cdr.duration > 3}, False),
    ):
        given: dict[str, Any] = options  # type: ignore[assignment]  # of several kinds
        assert Rule(name="a", handler=act, **given).matches(record) is expected


def test_rule_status_may_be_given_by_name() -> None:
    """The service spells ABANDONED in its own way; a rule understands both."""
    assert Rule(name="a", handler=act, statuses=["ABANDONED", "NO_ANSWER", "NEW"]).statuses == {
        DialStatus.ABANDONED,
        DialStatus.NO_ANSWER,
        "NEW",
    }


@pytest.mark.parametrize(
    ("queues", "name", "expected"),
    [
        ([], "Sales", True),
        ([], None, True),
        (["Sales, North"], "Sales, North", True),
        (["sales,  north"], " SALES, North", True),
        (["Sales, North"], "Sales", False),
        (["Sales", "Support"], "support", True),
        (["Sales"], None, False),
        (["Sales"], "", False),
        (['חב"ד'], "\u200fחב״ד", True),
    ],
)
def test_rule_matches_queues_by_name(queues: list[str], name: str | None, expected: bool) -> None:
    """A name holds its commas; case, space and invisible marks don't matter; who was in no queue is in none of them."""
    rule = Rule(name="a", handler=act, queues=queues)
    assert rule.matches(make_record(at=NOW, QueueName=name)) is expected
    assert rule.queues == frozenset(queues)
    assert attrs.evolve(rule, queues=["Other"]).matches(make_record(at=NOW, QueueName="other"))


def test_rule_bare_name_of_a_queue_is_refused_with_a_reason() -> None:
    """A text in place of a list would otherwise be a list of letters."""
    with pytest.raises(ConfigurationError, match="queues must be a list of names of queues"):
        Rule(name="a", handler=act, queues="Sales")


def test_rule_timeout_may_be_left_open() -> None:
    """None waits for as long as a handler takes."""
    assert Rule(name="a", handler=act, timeout=None).timeout is None


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "0521234567"},
        {"name": 3},
        {"handler": None},
        {"handler": "print"},
        {"types": 8},
        {"types": "8"},
        {"types": ["queue"]},
        {"statuses": "ABANDONE"},
        {"statuses": [3]},
        {"queues": "Sales"},
        {"queues": 8},
        {"queues": [8]},
        {"queues": ["Sales", ""]},
        {"queues": [" \u200f"]},
        {"where": "x"},
        {"timeout": 0},
        {"timeout": True},
        {"retry_for": timedelta(days=2)},
        {"retry_for": 60},
        {"concurrency": 0},
        {"concurrency": 1.5},
    ],
)
def test_rule_invalid_values_are_refused(changes: dict[str, Any]) -> None:
    """Whatever is invalid is refused when the rule is made."""
    options: dict[str, Any] = {"name": "all", "handler": act} | changes
    if options["handler"] is None:
        del options["handler"]
        with pytest.raises(TypeError):
            Rule(**options)
        return
    with pytest.raises(ConfigurationError):
        Rule(**options)
