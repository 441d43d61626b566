"""Numbers under other names: they join, reveal nothing, and leave what is made from a record right."""

from __future__ import annotations

import copy
import csv
import gzip
import hmac
import io
import json
import pickle
import re
import traceback
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.command_line import NOW, PHONE, RECORDS, Run, Service, record
from support.fingerprints import cheap_scrypt
from support.sync_worker import stored

from voicenter_cdr import Cdr, CdrClient, CdrType, CheckpointError, ConfigurationError, InvalidRecord, Page, Problem
from voicenter_cdr.analytics import unreturned
from voicenter_cdr.calls import RULES, customer_number, direction, normal_number, outcome, stitch
from voicenter_cdr.export import JsonlSink, row, write_pages
from voicenter_cdr.pseudonyms import Pseudonymiser
from voicenter_cdr.sandbox import CallCentre, Fault, Records, Sandbox
from voicenter_cdr.sync import sync
from voicenter_cdr.testing import make_record

KEY = b"a key of thirty-two bytes, no le"
NAMES = Pseudonymiser(KEY)
NAME = re.compile("p_[b-df-hjkmnp-tv]{24}")
BEGIN = datetime(2026, 1, 4, tzinfo=UTC)
SPELLINGS = (
    "0501234567",
    "972501234567",
    "+972501234567",
    "+972-50-123-4567",
    "00972501234567",
    "9720501234567",
    "(050) 123.4567",
    "050\u2013123\u20114567",
    "\u200e050-1234567\u200f",
    "050\xa01234567",
    "٠٥٠١٢٣٤٥٦٧",
)
texts = st.text(st.sampled_from("0123456789 +-()/*#pAב_"), max_size=18) | st.sampled_from(SPELLINGS)


# --- names


@pytest.mark.parametrize("text", SPELLINGS)
def test_pseudonym_of_any_spelling_is_one_name(text: str) -> None:
    """However an Israeli number is written, alone or in the middle of a sentence, it has one name."""
    assert NAMES.number(text) == NAMES.number("0501234567")
    made = NAMES.record(make_record(CustomData={"note": f"call {text} back", "phone": text})).custom_data or {}
    assert NAMES.number(text) in made["note"]
    assert made["phone"].strip("\u200e\u200f") == NAMES.number(text)


@given(texts)
def test_pseudonym_is_stable_and_holds_no_digit(text: str) -> None:
    """A name has 26 signs, no digit and no vowel; the same key gives it again, and it stays under every key."""
    name = NAMES.number(text)
    assert Pseudonymiser(KEY + b"\n").number(text) == name
    assert Pseudonymiser(KEY * 2).number(name) == name
    normal = normal_number(text) or ""
    if normal.isdecimal() and len(normal) > 2:
        assert NAME.fullmatch(name)
        assert Pseudonymiser(KEY * 2).number(text) != name
    assert not re.search(r"\d{9}", name) or max(map(len, re.findall(r"\d+", name))) > 15


@given(st.lists(st.integers(100, 10**13), unique_by=lambda number: normal_number(str(number)), max_size=50))
def test_pseudonym_of_another_number_differs(numbers: list[int]) -> None:
    """No two numbers share a name."""
    assert len({NAMES.number(str(number)) for number in numbers}) == len(numbers)


@pytest.mark.parametrize("text", ["", " ", "0", "00", "anonymous", "AAPINFzL", "SIPSIP01", "חסוי"])
def test_pseudonym_of_no_number_is_itself(text: str) -> None:
    """Withheld numbers, codes of extensions and nothing at all."""
    assert NAMES.number(text) == text


def test_pseudonym_of_a_known_key_never_changes() -> None:
    """Names are for ever: what was written with a key joins with what a later version, or another program, writes."""
    digest = hmac.new(KEY, b"voicenter_cdr\0number\x00972501234567", "sha256").hexdigest()
    letters = dict(zip("0123456789abcdef", "bcdfghjkmnpqrstv", strict=True))
    assert NAMES.number("0501234567") == "p_" + "".join(letters[digit] for digit in digest[:24])
    assert Pseudonymiser(b"k" * 32).number("0501234567") == "p_hkgbdgcvtmdcsdgtbffbkrgk"


@pytest.mark.parametrize("key", [b"", b"short", b"fifteen bytes..", b"   fifteen bytes..\n", "text" * 8])
def test_pseudonymiser_bad_key_is_refused_unseen(key: Any) -> None:
    """A short key could be guessed, text is no key; neither shows in the error, even with local variables."""
    with pytest.raises(ConfigurationError) as raised:
        Pseudonymiser(key)
    frames = traceback.TracebackException.from_exception(raised.value, capture_locals=True).stack[1:]
    assert str(key.strip()) not in f"{frames} {[frame.locals for frame in frames]} {raised.value}" or not key


def test_pseudonymiser_shows_its_key_nowhere() -> None:
    """In no repr, pickle, copy or attribute; its fingerprint is one of it alone."""
    secret = KEY.decode()
    assert secret not in f"{NAMES!r} {NAMES} {[getattr(NAMES, name) for name in Pseudonymiser.__slots__]}"
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="pickled"):
            take(NAMES)
    assert NAMES.fingerprint == Pseudonymiser(KEY).fingerprint != Pseudonymiser(KEY[1:]).fingerprint
    assert re.fullmatch("[0-9a-f]{32}", NAMES.fingerprint)


# --- records


@given(
    st.sampled_from([*RULES, 77, None]),
    texts,
    texts,
    st.none() | st.just("0722776772"),
    st.sampled_from(["ANSWER", "NOANSWER", "ABANDONE"]),
)
def test_record_with_pseudonyms_keeps_derived_values(
    kind: Any, caller: str, target: str, did: Any, status: str
) -> None:
    """Direction and outcome are the same; the customer's number is its name, the one its own column has."""
    cdr = Cdr(started_at=BEGIN, cdr_type=kind, caller_number=caller, target_number=target, did=did, dial_status=status)
    made = NAMES.record(cdr)
    number = customer_number(cdr)
    assert (direction(made), outcome(made)) == (direction(cdr), outcome(cdr))
    assert customer_number(made) == (None if number is None else NAMES.number(number))
    assert customer_number(made) in (None, made.caller_number, made.target_number)
    assert NAMES.record(made) == made
    assert (made.did, made.started_at) == (cdr.did, cdr.started_at)


def test_record_with_pseudonyms_holds_no_number() -> None:
    """Wherever the service, a dialer or a caller may have put it: keys, nested values, menus, links, extensions."""
    digits = "501234567"
    cdr = make_record(
        CallerNumber="0501234567",
        TargetNumber="sip:0501234567@pbx",
        TargetExtension="0501234567",
        RecordURL="https://h/PlayRecord/0501234567_in.mp3?to=%2B972501234567",
        DTMFData=[{"LayerName": "Phone?", "DTMF": "0501234567", "LayerNumber": "3"}],
        CustomData={
            "var_phone": 972501234567,
            "0501234567": "lead",
            "+972-50-1234567": "lead too",
            "list": ["050-1234567/050-1234567", {"deep": "tel:0501234567;ext=2"}],
            "float": 972501234567.0,
            "beside": "050 1234567 050 1234567",
            "json": '{"phone":"972501234567"}',
        },
        ClientPhone="0501234567",
    )
    more = {**(cdr.custom_data or {}), "exact": Decimal("972501234567")}
    made = NAMES.record(attrs.evolve(cdr, custom_data=more))
    everything = json.dumps(row(made), ensure_ascii=False)
    assert digits not in everything.replace("-", "").replace(" ", "")
    own = NAMES.number("0501234567")
    data = made.custom_data or {}
    assert made.extra["ClientPhone"] == made.caller_number == made.target_extension == own == data["var_phone"]
    assert made.target_number == f"sip:{own}@pbx"
    assert made.record_url == f"https://h/PlayRecord/{own}_in.mp3?to=%2B{own}"
    assert (made.dtmf_data or ())[0].dtmf == own
    assert (data[own], data[f"{own}_"]) == ("lead", "lead too")
    assert data["list"] == (f"{own}/{own}", {"deep": f"tel:{own};ext=2"})
    assert data["json"] == f'{{"phone":"{own}"}}'
    assert data["float"] == data["exact"] == own
    assert NAME.fullmatch(data["beside"])


def test_record_with_pseudonyms_keeps_what_is_no_number() -> None:
    """Ids of calls, dates, times, amounts, words, and the link to a recording that names its call only."""
    call_id = "20260714113106004512ab123456789f2"
    custom = {
        "OriginalIvrUniqueID": "202607141202380071fe123456789c4",
        "when": "2026-07-14 12:02:38 or 14/07/2026 12:02",
        "amount": 1990,
        "rate": 0.3333333333333,
        "huge": 10**40,
        "endless": float("inf"),
        "text": "L-5512, 12 calls",
        "yes": True,
        "no": None,
    }
    cdr = make_record(CallID=call_id, CustomData=custom, RecordURL=f"https://h/PlayRecord/{call_id}-aws.mp3")
    made = NAMES.record(cdr)
    assert made.custom_data == custom
    assert made == attrs.evolve(
        cdr, caller_number=NAMES.number(cdr.caller_number or ""), target_number=NAMES.number(cdr.target_number or "")
    )
    assert made.original_call_id == cdr.original_call_id


def test_record_with_pseudonyms_has_a_key_of_names() -> None:
    """So that nobody finds the number behind it by trying them all; it is as stable as the names are."""
    cdr = make_record(CallerNumber="0501234567")
    other = attrs.evolve(cdr, caller_number="+972501234567")
    assert cdr.key not in (other.key, NAMES.record(cdr).key)
    assert NAMES.record(cdr).key == NAMES.record(other).key


def test_analytics_with_pseudonyms_are_the_same() -> None:
    """Calls, who began them, how they ended and whom to call back come out as from the numbers."""
    centre = CallCentre(BEGIN, BEGIN + timedelta(days=2), seed=5, calls_per_day=200)
    fields = [
        {name: value for name, value in centre.record(place).items() if not name.startswith("_")}
        for place in range(300)
    ]
    records = [make_record(**one) for one in fields]
    made = NAMES.records(records)
    calls = [[(c.call_ids, c.direction, c.outcome) for c in stitch(list(some))] for some in (records, made)]
    assert len(calls[0]) > 100
    assert calls[0] == calls[1]
    waiting = [[(u.attempts, u.first_attempt) for u in unreturned(list(some))] for some in (records, made)]
    assert waiting[0]
    assert sorted(waiting[0]) == sorted(waiting[1])
    plain = {cdr.caller_number for cdr in records} | {cdr.target_number for cdr in records}
    hidden = [number for number in plain if number and number.isdecimal() and len(number) > 8]
    text = "\n".join(json.dumps({**row(cdr), "did": None}) for cdr in made)
    assert len(hidden) > 50
    assert not [number for number in hidden if number in text]


# --- files


async def test_write_pages_with_pseudonyms_writes_no_number() -> None:
    """Page by page by oneself, or by write_pages; what could not be read loses what was sent."""
    bad = InvalidRecord((Problem("$.x", "a number"),), {"CallerNumber": PHONE}, BEGIN)
    page = Page(records=(make_record(),), start=BEGIN, end=BEGIN, is_complete=False, invalid=(bad,))

    async def pages(convert: bool) -> AsyncIterator[Page]:
        yield NAMES.page(page) if convert else page

    targets = io.BytesIO(), io.BytesIO()
    seen: list[Page] = []
    assert await write_pages(pages(True), JsonlSink(targets[0])) == 1
    assert await write_pages(pages(False), JsonlSink(targets[1]), pseudonymiser=NAMES, on_page=seen.append) == 1
    assert targets[0].getvalue() == targets[1].getvalue() != b""
    assert seen == [page]
    assert NAMES.page(page).invalid == (attrs.evolve(bad, raw=None),)


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    path = tmp_path / "pseudonyms.key"
    path.write_bytes(KEY + b"\n")
    return str(path)


@pytest.mark.usefixtures("service")
def test_export_with_pseudonyms_writes_no_number_in_any_format(run: Run, key_file: str) -> None:  # a fixture
    """The flag of export: no number but the DID comes out, in any format, and the derived columns are right."""
    plain = run("export", "--last", "7d").records
    done = run("export", "--last", "7d", "--pseudonymise-key-file", key_file)
    assert done.code == 0
    assert PHONE not in done.out + done.err
    for before, after in zip(plain, done.records, strict=True):
        assert after["caller_number"] == NAMES.number(before["caller_number"])
        assert after["customer_number"] in (after["caller_number"], after["target_number"])
        kept = ("call_id", "direction", "outcome", "started_at", "duration")
        assert [after[name] for name in kept] == [before[name] for name in kept]
    words = ("export", "--last", "7d", "--format", "csv", "--fields", "customer_number", "--status", "TIMEOUT")
    (cell,) = csv.DictReader(io.StringIO(run(*words, "--pseudonymise-key-file", key_file).out))
    assert cell == {"customer_number": NAMES.number("972541111111")}


def test_export_with_pseudonyms_prints_no_checkpoint(
    service: Service, run: Run, key_file: str, tmp_path: Path
) -> None:  # fixtures
    """Nor a checkpoint, whose digests are of records with their numbers; without pseudonyms it is reported."""
    for command in (("export",), ("sync", str(tmp_path / "a.sqlite"))):
        words = (*command, "--last", "7d", "--max-wait", "1", "--error-format", "json")
        for more in ((), ("--pseudonymise-key-file", key_file)):
            service.goes_wrong(then=Fault.refuse(1))
            lines = run(*words, *more, "--quiet").err.splitlines()
            assert (json.loads(lines[-1])["checkpoint"] is None) == bool(more)


def test_export_bad_key_file_is_exit_code_2(service: Service, run: Run, tmp_path: Path) -> None:  # fixtures
    """No file, no key, a short one, or the key itself on the command line: exit code 2, nothing sent, nothing shown."""
    short = tmp_path / "short.key"
    short.write_bytes(b"s3cret-15-bytes")
    for words in (
        ("--pseudonymise-key-file", "/nowhere/s3cret"),
        ("--pseudonymise-key-file", str(short)),
        ("--pseudonymise-key", "s3cret-but-long-enough"),
        ("--pseudonymise-key=s3cret-but-long-enough",),
    ):
        for command in (("export", "--last", "7d"), ("sync", str(tmp_path / "a.sqlite"), "--last", "7d")):
            done = run(*command, *words)
            assert (done.code, done.out) == (2, "")
            assert "s3cret" not in done.err
    assert service.app.hits == []


def contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", ["calls.sqlite", "calls/"])
async def test_sync_with_another_key_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is filled with names; another key, or none, is refused before a request, and the copy stays as it is."""
    monkeypatch.setattr("hashlib.scrypt", cheap_scrypt)
    app, target = Sandbox(Records(RECORDS), codes=["c"]), f"{tmp_path}/{kind}"
    options: dict[str, Any] = {"start": NOW - timedelta(days=7), "now": NOW, "settle": timedelta(0)}
    async with CdrClient(code="c", transport=httpx.ASGITransport(app)) as client:
        report = await sync(client, {}, target, pseudonymiser=NAMES, **options)
        assert (report.rows, report.is_complete) == (4, True)
        before, asked = stored(target), len(app.hits)
        for other in (Pseudonymiser(KEY * 2), None):
            with pytest.raises(CheckpointError, match="other pseudonyms") as raised:
                await sync(client, {}, target, pseudonymiser=other, **options)
            assert "full_refresh=True" in str(raised.value)
        assert (stored(target), len(app.hits)) == (before, asked)
        await sync(client, {}, target, pseudonymiser=Pseudonymiser(KEY), **options)
        hidden = [PHONE.encode(), b"972" + PHONE[1:].encode(), KEY, NAMES.fingerprint.encode()]
        content = contents(tmp_path)
        assert not [text for text in hidden if text in content]
        await sync(client, {}, target, full_refresh=True, **options)
        with pytest.raises(CheckpointError, match="other pseudonyms"):
            await sync(client, {}, target, pseudonymiser=NAMES, **options)


def test_sync_command_with_pseudonyms_keeps_names(
    service: Service, run: Run, key_file: str, tmp_path: Path
) -> None:  # fixtures
    """The flag of sync: the copy holds names, and continues with the same key only."""
    target, flag = str(tmp_path / "calls/"), "--pseudonymise-key-file"
    words = ("sync", f"{target}/", "--format", "jsonl", "--last", "7d")
    assert run(*words, flag, key_file).code == 0
    text = "".join(gzip.decompress(path.read_bytes()).decode() for path in (tmp_path / "calls").rglob("*.jsonl.gz"))
    assert NAMES.number(PHONE) in text
    assert PHONE not in text
    service.holds(Records([*RECORDS, record(NOW - timedelta(hours=2), CdrType=int(CdrType.VOICEMAIL))]))
    assert run(*words, flag, key_file).code == 0
    Path(key_file).write_bytes(KEY * 2)
    assert run(*words, flag, key_file).code == 2
    assert run(*words).code == 2
