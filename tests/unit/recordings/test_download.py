"""Names of recordings' files."""

from __future__ import annotations

from datetime import UTC, datetime

import attrs

from voicenter_cdr.recordings.download import file_stem
from voicenter_cdr.testing import make_record

CDR = make_record(at=datetime(2026, 3, 1, 9, tzinfo=UTC), CallerNumber="0521234567", RecordURL="https://h/r/1.mp3")


def test_file_stem_holds_nothing_of_a_number() -> None:
    """Records that differ in their numbers alone have one name, so no number can be found by trying all of them."""
    other = attrs.evolve(CDR, caller_number="0529876543", target_number="0501112222")
    assert file_stem(other) == file_stem(CDR)
    linked = [attrs.evolve(CDR, record_url=f"https://h/r/{number}.mp3") for number in ("0521234567", "0529876543")]
    assert file_stem(linked[0]) == file_stem(linked[1])


def test_file_stem_differs_by_leg_and_link() -> None:
    """Legs of one call, and recordings with links of their own, have names of their own."""
    others = [
        attrs.evolve(CDR, cdr_type=15),
        attrs.evolve(CDR, record_url="https://h/r/2.mp3"),
        attrs.evolve(CDR, target_extension="SIPSIP99"),
        attrs.evolve(CDR, call_id="../x"),
    ]
    assert len({file_stem(cdr) for cdr in (CDR, *others)}) == 5
    assert "/" not in file_stem(others[-1])
