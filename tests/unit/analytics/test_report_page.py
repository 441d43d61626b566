"""Report page: complete in itself, in two directions, with the numbers that JSON, CSV and Python have."""

from __future__ import annotations

import html as markup
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples
from support.real_month import TEN, bank, month, with_data
from support.records import at

from voicenter_cdr import ConfigurationError
from voicenter_cdr.analytics import MEASURES, KpiOptions, Target, kpis
from voicenter_cdr.analytics.report import Provenance, render
from voicenter_cdr.analytics.report.charts import bar_chart
from voicenter_cdr.analytics.report.provenance import Filter, leave_out
from voicenter_cdr.analytics.report.translations import load_translations
from voicenter_cdr.calls import customer_number

VOID = {"meta", "rect", "path", "circle", "br"}
START = datetime(2026, 7, 14, 21, tzinfo=UTC)
"""Midnight in Israel."""
both = pytest.mark.parametrize("language", ["en", "he"])


class Page(HTMLParser):
    """Elements, texts and attributes of a page; its elements have to end in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.heads: list[list[str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "thead":
            self.heads.append([])
        if tag not in VOID or (tag == "rect" and not self.get_starttag_text().endswith("/>")):  # type: ignore[union-attr]
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)
        if "th" in self.open:
            self.heads[-1].append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


@both
def test_page_needs_nothing_from_outside(language: str) -> None:
    """The page is well formed and small, has no script, address, image or font, and no customer's number."""
    records = month()[1]
    html = render(kpis(records), language=language)  # type: ignore[arg-type]
    page = Page(html)
    assert len(html.encode()) < 100_000
    assert not page.tags & {"script", "img", "link", "iframe", "object", "a"}
    assert not re.search(r"https?:|//|url\(|@import|javascript:|\bon\w+=", html)
    assert {"svg", "table", "style"} <= page.tags
    assert ("dir", "rtl" if language == "he" else "ltr") in page.attributes
    numbers = {number for cdr in records if (number := customer_number(cdr))}
    assert not numbers & set(re.findall(r"\d{9,}", page.text))


@both
def test_page_definitions_hold_every_number_and_measure(language: str) -> None:
    """Each number is shown once with title, formula, variant and name; each measure of the formulas is explained."""
    made = kpis(TEN)
    words = load_translations(language)
    text = Page(render(made, language=language)).text  # type: ignore[arg-type]
    definitions = text[text.index(words["definitions_note"]) :]
    for kpi in made.overall.values():
        for part in (
            words.title(kpi.definition, made.options),
            words.formula(kpi.definition),
            words.variant(kpi.definition, made.options),
            kpi.name,
        ):
            assert part in definitions
    assert all(words.measure_text(name, made.options) in definitions for name in MEASURES)
    assert "RingTime" in text
    assert "{" not in text


@both
def test_page_heads_of_columns_hold_no_formula(language: str) -> None:
    """Heads are short, so that browsers repeat them on every sheet of paper."""
    page = Page(render(kpis(TEN), language=language))  # type: ignore[arg-type]
    assert page.heads
    assert all(len(head) <= 32 and "÷" not in head for row in page.heads for head in row)


def test_page_in_hebrew_has_no_english_word() -> None:
    """Every word of the Hebrew page is Hebrew, but for names, statuses and field names of the API and of sources."""
    page = Page(render(kpis(TEN), language="he"))
    english = {"answered", "abandoned", "calls", "days", "hours", "queue", "the", "of", "records", "none", "service"}
    titled = re.sub(r"\([^)]*\)", "", page.text)
    names = "|".join(kpis([]).overall) + "|" + "|".join(MEASURES)
    words = set(re.findall(r"[a-z]{3,}", re.sub(rf"\b({names})\b", "", titled)))
    assert not words & english


def test_page_shows_the_values_of_the_numbers() -> None:
    """Values are rounded and lengths of time are m:ss; an unknown number is a dash."""
    made = kpis(TEN, options=KpiOptions(short_abandon=0))
    text = Page(render(made)).text
    assert "33.3%" in text  # abandoned 3 of 9
    assert "0:17" in text  # 51 seconds of 3 answers
    assert made["reach_rate"].value is None
    assert re.search(r"Customers reached \N{EN DASH}", text)


@examples(40)
@given(st.text("<>&\"'{}%\u202e\x00aא", min_size=1, max_size=12))
def test_page_names_are_text_not_markup(name: str) -> None:
    """A queue, agent or title that reads like markup or a template is shown as it is."""
    record = at(0, cdr_type=8, queue_name=name, representative_name=name, dial_status="ANSWER")
    html = render(kpis([record]), title=name)
    page = Page(html)
    assert not page.tags & {"script", "b", "a"} - {"b"}
    assert markup.escape(name, quote=False) in html.replace("&#34;", '"').replace("&#39;", "'")


@both
def test_page_without_records_says_so(language: str) -> None:
    """No records are a report, too: it says that there are none."""
    page = Page(render(kpis([], start=START, end=START + timedelta(days=1)), language=language))  # type: ignore[arg-type]
    assert load_translations(language)["empty"] in page.text


@pytest.mark.parametrize("count", [0, 1, 3, 8, 24])
def test_page_charts_have_the_same_scale_for_few_hours_as_for_many(count: int) -> None:
    """Charts have a size in pixels: letters are as large in a chart of one hour as in one of all."""
    records = [at(60 * hour, cdr_type=8, dial_status="ANSWER") for hour in range(count)]
    html = render(kpis(records, start=START, end=START + timedelta(days=2)))
    tags = re.findall(r"<svg[^>]*>", html)
    assert tags
    for tag in tags:
        width, height = (int(re.search(rf'\b{side}="(\d+)"', tag)[1]) for side in ("width", "height"))  # type: ignore[index]
        assert f'viewBox="0 0 {width} {height}"' in tag
        assert height < 250
        assert width <= 800


@pytest.mark.parametrize("count", [2, 11, 12, 14, 31, 62])
def test_bar_chart_labels_of_any_number_of_columns_do_not_touch(count: int) -> None:
    """Dates such as 30.08 below the columns keep the distance that they need, with weeks as with days."""
    chart = bar_chart(["30.08"] * count, [1.0] * count, [0.0] * count, "Weeks", mirrored=True)
    places = sorted(float(place) for place in re.findall(r'<text x="([\d.]+)" y="[\d.]+">30', chart))
    assert len(places) > min(count, 6) / 2
    assert all(after - before >= 37 for before, after in pairwise(places))


def test_page_says_where_its_records_come_from() -> None:
    """Period, zone, filters, source, creation and the instant of completeness stand at the top, in local time."""
    provenance = Provenance(
        created_at=datetime(2026, 8, 1, 9, tzinfo=UTC),
        proven_until=datetime(2026, 8, 1, 8, 55, tzinfo=UTC),
        source="calls.duckdb",
        filters=(("type", ("queue",)), ("status", ("ANSWER",))),
    )
    numbers = kpis(TEN, start=START, end=START + timedelta(days=2))
    text = Page(render(numbers, provenance=provenance)).text
    head = text[: text.index("Key numbers")]
    for part in (
        "15 July 2026 to 16 July 2026 (2 days)",
        "Asia/Jerusalem",
        "type of record: queue; ended: ANSWER",
        "calls.duckdb",
        "1 August 2026, 12:00",
        "1 August 2026, 11:55",
    ):
        assert part in head
    hebrew = Page(render(numbers, provenance=provenance, language="he")).text
    assert "סוג רשומה: תור; הסתיימו: ANSWER" in hebrew
    assert "15 ביולי 2026 עד 16 ביולי 2026 (2 ימים)" in hebrew


def test_page_of_a_copy_names_its_filters_in_the_language() -> None:
    """Counts of numbers and calls are in the words of the page, and so is that the copy does not name its filters."""
    filters: tuple[Filter, ...] = (("phone", ("2 numbers",)), ("call_id", ("1 call",)), ("queue_id", ("7",)))
    provenance = Provenance(filters=filters, has_unknown_filters=True)
    assert (
        "phone: 2 numbers; call: 1 call; queue id: 7; unknown (the copy"
        in Page(render(kpis(TEN), provenance=provenance)).text
    )
    hebrew = Page(render(kpis(TEN), provenance=provenance, language="he")).text
    assert "טלפון: 2 מספרים; שיחה: שיחה אחת; מזהה תור: 7; לא ידוע (העותק" in hebrew


def test_page_names_the_numbers_that_filters_leave_out() -> None:
    """A number that filtered records can't show is named, not shown as a dash with another meaning."""
    filters: tuple[Filter, ...] = (("type", ("queue",)),)
    numbers, left_out = leave_out(kpis(TEN), filters)
    text = Page(render(numbers, provenance=Provenance(filters=filters, left_out=left_out))).text
    assert re.search(r"they are not shown: [^.]*Answer rate", text)
    assert re.search(r"Answer rate not shown", text)


def test_page_weekdays_are_means_of_one_day() -> None:
    """Two weeks with four calls every Sunday show a mean of four."""
    sundays = [datetime(2026, 7, day, 8, tzinfo=UTC) for day in (12, 19)]
    records = [
        at(int((day - datetime(2026, 7, 1, tzinfo=UTC)).total_seconds()) + n, cdr_type=8, dial_status="ANSWER")
        for day in sundays
        for n in range(4)
    ]
    first = min(cdr.started_at for cdr in records).astimezone(UTC).replace(hour=0, minute=0, second=0) - timedelta(
        hours=3
    )
    text = Page(render(kpis(records, start=first, end=first + timedelta(days=14)))).text
    weekdays = text[text.index("Calls are means per day; the period has 14 days") :]
    assert re.search(r"\b(Sunday|Monday|Tuesday|Wednesday|Thursday|Friday|Saturday) 4 100\.0%", weekdays)


def test_page_compared_with_a_period_before_shows_the_change() -> None:
    """Shares change by points, all else by percent, with a comma in thousands."""
    now, before = kpis(TEN, start=START, end=START + timedelta(days=1)), kpis(TEN[:5], start=START, end=START)
    text = Page(render(now, before=before)).text
    assert "Compared with" in text
    assert re.search(r"(up|down) \d+\.\d points", text)
    many = render(kpis(TEN * 200), before=kpis(TEN[:1]))
    assert re.search(r"up \d+,\d{3}\.\d%", Page(many).text)
    assert re.search(r"up \d+\.\d%", text)


def test_page_of_a_long_period_says_how_many_days_are_not_shown() -> None:
    """More than two months are shown by week; of weeks that are too many, the number of earlier ones is named."""
    records = [at(7 * 86_400 * week, cdr_type=8, dial_status="ANSWER") for week in range(80)]
    few, many = (Page(render(kpis(some))).text for some in (records[:12], records))
    assert "Weeks" in few
    assert "earlier ones" not in few
    assert re.search(r"\b(18|19) earlier ones are not shown", many)


def test_page_shows_targets_and_whether_they_were_met() -> None:
    """A target of all queues stands with the service level; all targets have their value and their intervals."""
    targets = (Target(service_level=0.9), Target(queue="Sales", abandonment_rate=0.05))
    records = [at(n, cdr_type=8, queue_name="Sales", dial_status="ANSWER", ring_time=60 * (n % 2)) for n in range(10)]
    text = Page(render(kpis(records, options=KpiOptions(targets=targets, interval=30)))).text
    assert "target: 90%, not met" in text
    section = text[text.index("Targets") :]
    assert re.search(r"all queues service level \(0:20\) 90\.0% 50\.0% not met 0 / 1", section)
    assert re.search(r"Sales abandonment, at most 5\.0% 0\.0% met 1 / 1", section)


def test_page_shows_waits_in_classes_and_the_busiest_intervals() -> None:
    """Queue entries stand by class of wait, also by queue; intervals stand with their local time."""
    records = [at(n, cdr_type=8, queue_name="Sales", dial_status="ANSWER", ring_time=15) for n in range(4)]
    numbers = kpis(records, options=KpiOptions(interval=30))
    text = Page(render(numbers)).text
    assert re.search(r"all queues 0 4 0 0 0 0 0 0", text)
    begin = records[0].started_at.astimezone(numbers.options.zone)
    begin = begin.replace(minute=begin.minute // 30 * 30)
    assert f"{begin:%d.%m %H:%M}" in text


def test_page_says_that_waits_of_abandoned_calls_are_unknown() -> None:
    """Where most callers who gave up have a wait of 0, the page says that such waits are not known."""
    records = [at(n, cdr_type=8, queue_name="Sales", dial_status="ABANDONE", ring_time=0, duration=0) for n in range(3)]
    assert "the waits of callers who gave up are not known" in Page(render(kpis(records))).text


def test_render_unknown_language_names_the_known_ones() -> None:
    """The error names the languages the page has."""
    with pytest.raises(ConfigurationError, match="en and he"):
        render(kpis([]), language="fr")  # type: ignore[arg-type]


@with_data
@pytest.mark.parametrize("count", [4_000, pytest.param(31_597, marks=pytest.mark.exhaustive)])
def test_page_of_the_real_month_shows_its_numbers(count: int) -> None:
    """A month of a bank is a page of some tens of KB with its queues and its service level."""
    numbers = kpis(bank(count))
    html = render(numbers)
    text = Page(html).text
    assert len(html.encode()) < 100_000
    assert all(shown in text for shown in ("Regular Activity", "Stock Exchange", f"{count:,}"))
    level = numbers["service_level_negative"].value
    assert level is not None
    assert f"{level:.1%}" in text


def test_page_countries_called_holds_calls_to_customers_only() -> None:
    """Calls from customers have no country called: they make no line of their own in that table."""
    records = [at(n, cdr_type=8, dial_status="ANSWER", duration=600) for n in range(10)]
    records.append(
        at(60, cdr_type=4, dial_status="ANSWER", duration=30, target_prefix_name="Israel", caller_number="1")
    )
    text = Page(render(kpis(records))).text
    table = text[text.index("Countries called") :]
    assert re.match(r"Countries called Countries called Outgoing Reached Talk Cost Israel 1 ", table)


def test_page_agents_show_their_days_and_are_distinguished() -> None:
    """Beside each agent stand the local times of the first and the last call; the code distinguishes namesakes."""
    calls = [
        at(
            hour * 3_600,
            cdr_type=8,
            dial_status="ANSWER",
            duration=600,
            representative_code=code,
            representative_name="Dana",
        )
        for hour, code in ((0, "71"), (5, "71"), (1, "72"))
    ]
    page = Page(render(kpis(calls))).text
    assert re.search(r"Dana 71 .*? 1 11:00 16:10", page)
    assert re.search(r"Dana 72 .*? 1 12:00 12:10", page)


def test_page_shows_every_day_of_the_period_and_what_has_no_name_last() -> None:
    """A day without calls has its line at either end, too; entries without a queue are below the smallest queue."""
    queued = {"cdr_type": 8, "did": "0722776700", "dial_status": "ANSWER", "duration": 60}
    records = [at(3_600 * hour, call_id=f"c{hour}", **queued) for hour in range(3)]  # type: ignore[arg-type]
    records.append(at(0, call_id="s", queue_name="Sales", **queued))  # type: ignore[arg-type]
    numbers = kpis(records, start=START - timedelta(days=1), end=START + timedelta(days=2))
    before = kpis([], start=START - timedelta(days=4), end=START - timedelta(days=1))
    text = Page(render(numbers, before=before)).text
    days = re.findall(r"\b(\d\d\.07) (?:Tues|Wednes|Thurs)day", text)
    assert days == ["14.07", "15.07", "16.07"]
    entries = text[text.index("Every entry into a queue") :]
    assert entries.index("Sales") < entries.index("none")
    assert "(3 days): no records" in text
