"""Checkpoints of records, follow and watch: JSON with a kind and a version, and nothing else is taken for one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicenter_cdr import CdrQuery, CheckpointError
from voicenter_cdr.core.streaming.checkpoints import StreamCheckpoint
from voicenter_cdr.core.streaming.follow_checkpoint import FollowCheckpoint, PendingVersion, WatchCheckpoint

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
QUERY = CdrQuery(NOW - timedelta(hours=1, microseconds=5), NOW)

SALT = "0f" * 16
digests = st.dictionaries(st.text("0123456789abcdef", min_size=1, max_size=8), st.integers(0, 2**33), max_size=4)
pending = st.dictionaries(
    st.text("0123456789abcdef", min_size=1, max_size=8),
    st.builds(
        PendingVersion,
        second=st.integers(0, 2**33),
        is_new=st.booleans(),
        since=st.integers(0, 10**7).map(lambda age: NOW - timedelta(seconds=age)),
    ),
    max_size=4,
)
follows = st.builds(
    lambda until, versions, keys, waiting: FollowCheckpoint.of(
        query=QUERY, complete_until=until, versions=versions, keys=keys, pending=waiting, now=NOW
    ),
    st.none() | st.just(NOW),
    digests,
    digests,
    pending,
)


@given(follows, digests)
def test_checkpoints_are_read_back_as_they_were_written(follow: FollowCheckpoint, done: dict[str, int]) -> None:
    """Text and value are the same thing, for both kinds; the pending versions keep their age."""
    assert FollowCheckpoint.parse(follow.dump()) == follow
    watch = WatchCheckpoint(start=QUERY.seconds[0], end=QUERY.seconds[1], salt=SALT, done=done, follow=follow)
    assert WatchCheckpoint.parse(watch.dump()) == watch
    assert follow.is_for(QUERY)
    later = NOW + timedelta(days=3)
    assert (
        FollowCheckpoint.of(
            query=QUERY,
            complete_until=follow.resume_time,
            versions=follow.versions,
            keys=follow.keys,
            pending=follow.pending_since(later),
            now=later,
        )
        == follow
    )


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | digests))
def test_checkpoint_of_any_other_json_is_refused(value: Any) -> None:
    """Whatever it is, the error is one of ours."""
    for kind in (StreamCheckpoint, FollowCheckpoint, WatchCheckpoint):
        with pytest.raises(CheckpointError):
            kind.parse(json.dumps(value))


def test_checkpoint_with_one_field_of_another_type_is_refused() -> None:
    """Numbers in place of text, text in place of numbers, fields that are missing; kinds and versions by name."""
    follow = FollowCheckpoint.of(query=QUERY, complete_until=NOW, versions={}, keys={}, pending={}, now=NOW)
    good = WatchCheckpoint(start=1, end=2, salt=SALT, done={"a": 1}, follow=follow)
    state = json.loads(good.dump())
    for name in state:
        if name != "kind":
            with pytest.raises(CheckpointError):
                WatchCheckpoint.parse(json.dumps({key: value for key, value in state.items() if key != name}))
        for wrong in ("x", True, [1], 2.5, 10**400):
            with pytest.raises(CheckpointError):
                WatchCheckpoint.parse(json.dumps(state | {name: wrong}))
    with pytest.raises(CheckpointError, match="not one of a follow"):
        FollowCheckpoint.parse(good.dump())
    with pytest.raises(CheckpointError, match="another version"):
        WatchCheckpoint.parse(json.dumps({"version": 1, "start": 0, "end": 1, "done": {}, "follow": {}}))


def test_checkpoint_with_a_key_too_many_is_refused() -> None:
    """A key nobody wrote, at the top or in the position of the stream inside, makes it damaged."""
    stream = StreamCheckpoint(query=QUERY.fingerprint, period=QUERY.seconds, windows=())
    follow = FollowCheckpoint.of(query=QUERY, complete_until=NOW, versions={}, keys={}, pending={}, now=NOW)
    watch = WatchCheckpoint(start=1, end=2, salt=SALT, done={}, follow=follow)
    for good in (stream, follow, watch):
        with pytest.raises(CheckpointError, match="damaged"):
            type(good).parse(json.dumps(json.loads(good.dump()) | {"extra": 1}))
    state = json.loads(watch.dump())
    with pytest.raises(CheckpointError, match="damaged"):
        WatchCheckpoint.parse(json.dumps(state | {"follow": state["follow"] | {"extra": 1}}))


def test_stream_checkpoint_resumes_its_own_query_only() -> None:
    """Its windows come back joined, its markers counted; another query or a marker without a second is refused."""
    start, stop = QUERY.seconds
    good = StreamCheckpoint(
        query=QUERY.fingerprint,
        period=QUERY.seconds,
        windows=((start, start + 5), (start + 5, stop)),
        delivered=("1-a",),
    )
    read = StreamCheckpoint.parse(good.dump())
    assert read == good
    windows, delivered = read.resume(QUERY)
    assert [(window.start, window.stop) for window in windows] == [(start, stop)]
    assert delivered == {"1-a": 1}
    with pytest.raises(CheckpointError, match="another query"):
        read.resume(CdrQuery(NOW - timedelta(hours=2), NOW))
    with pytest.raises(CheckpointError, match="damaged"):
        StreamCheckpoint.parse(json.dumps(json.loads(good.dump()) | {"delivered": ["x"]}))


@pytest.mark.parametrize(
    "damage", [{"delivered": ["9" * 5_000 + "-a"]}, {"delivered": ["-5-a"]}, {"largest_total": -1}]
)
def test_stream_checkpoint_with_a_damaged_number_is_refused(damage: dict[str, Any]) -> None:
    """A second that is no number, or too long for one, and a negative total were not written here."""
    good = StreamCheckpoint(query=QUERY.fingerprint, period=QUERY.seconds, windows=(QUERY.seconds,))
    with pytest.raises(CheckpointError, match="damaged"):
        StreamCheckpoint.parse(json.dumps(json.loads(good.dump()) | damage))


@pytest.mark.parametrize("age", [10**400, 10**15])
def test_follow_checkpoint_with_an_absurd_age_is_refused(age: int) -> None:
    """An age of a pending version that no date can hold is refused when it is read, not when it is used."""
    follow = FollowCheckpoint.of(query=QUERY, complete_until=NOW, versions={}, keys={}, pending={}, now=NOW)
    with pytest.raises(CheckpointError, match="damaged"):
        FollowCheckpoint.parse(json.dumps(json.loads(follow.dump()) | {"pending": {"a": [1, True, age]}}))


@pytest.mark.parametrize("salt", ["", "0f" * 15, "0f" * 17])
def test_watch_checkpoint_with_a_salt_of_another_length_is_refused(salt: str) -> None:
    """Ids of events made with another salt would be taken for new ones."""
    follow = FollowCheckpoint.of(query=QUERY, complete_until=NOW, versions={}, keys={}, pending={}, now=NOW)
    with pytest.raises(ValueError, match="another length"):
        WatchCheckpoint(start=1, end=2, salt=salt, done={}, follow=follow)


@pytest.mark.parametrize("version", ["\ud800", "0521234567", None, 3.0, True, [3]])
def test_checkpoint_version_that_is_no_number_is_damaged_and_not_shown(version: Any) -> None:
    """A version is quoted only where it is a whole number: anything else may not even be printable."""
    with pytest.raises(CheckpointError, match="damaged") as raised:
        StreamCheckpoint.parse(json.dumps({"kind": "records", "version": version}))
    assert "521234567" not in str(raised.value)
    assert str(raised.value).encode()
