"""What the report says, in English and in Hebrew."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from attrs import frozen

from voicenter_cdr.analytics.definitions import Definition, filled
from voicenter_cdr.analytics.measures import Terms

__all__ = ["Language", "Words", "words_in"]

Language = Literal["en", "he"]


@frozen
class Words:
    """One language. Texts that a language does not have fall back to the definition's own, which are English."""

    language: Language
    """Its code."""
    direction: Literal["ltr", "rtl"]
    """Which way it is read."""
    said: Mapping[str, str]
    """The report's own words."""
    weekdays: tuple[str, ...]
    """Sunday first."""
    titles: Mapping[str, str]
    """What numbers are called, by name."""
    variants: Mapping[str, str]
    """Their variants, by name; ``{…}`` are the terms."""
    measures: Mapping[str, str]
    """What measures are called in formulas, by name."""
    sets: Mapping[str, str]
    """Which records measures are about, by name; ``{…}`` are the terms."""

    def __getitem__(self, key: str) -> str:
        return self.said[key]

    def title(self, definition: Definition, terms: Terms) -> str:
        """What a number is called."""
        return filled(self.titles.get(definition.name, definition.title), terms)

    def variant(self, definition: Definition, terms: Terms) -> str:
        """Which of its variants it is."""
        return filled(self.variants.get(definition.name, definition.variant), terms)

    def formula(self, definition: Definition) -> str:
        """How it is made, in words."""
        if definition.told:
            return self.said.get(f"told:{definition.name}", definition.told)
        over = f" ÷ {self._sum(definition.denominator)}" if definition.denominator else ""
        up, down = definition.scale
        return (
            self._sum(definition.numerator)
            + over
            + (f" * {up}" if up != 1 else "")
            + (f" ÷ {down}" if down != 1 else "")
        )

    def _sum(self, names: tuple[str, ...]) -> str:
        parts = [("- " if name.startswith("-") else "+ ") + self.measure(name.removeprefix("-")) for name in names]
        text = " ".join(parts).removeprefix("+ ")
        return f"({text})" if len(names) > 1 else text

    def measure(self, name: str) -> str:
        """What a measure is called."""
        return self.measures.get(name, name.replace("_", " "))


_EN: Final = Words(
    "en",
    "ltr",
    MappingProxyType(
        {
            "report": "Call report",
            "period": "Period",
            "to": "to",
            "zone": "times in",
            "wait": "Waits: RingTime of the record. Whether it holds all of the wait in a queue is not documented: "
            "compare it once with CPanel.",
            "key numbers": "In short",
            "hours": "Calls from customers by hour of the week",
            "hours note": "mean of an hour of its kind in the period; darker is more",
            "lost": "Abandonment rate by hour of the week",
            "lost note": "share of the calls that entered a queue; darker is more",
            "days": "Calls from customers by day",
            "days note": "answered below, all others on top",
            "levels": "Service level and abandonment by day",
            "levels note": "solid: service level, negative variant; dashed: abandonment rate",
            "answered": "answered",
            "other": "not answered",
            "queue": "Queues",
            "representative": "Representatives",
            "department": "Departments",
            "country": "Countries called",
            "weekday": "Weekdays",
            "hour": "Hours",
            "menu": "Ways through the voice menu",
            "path": "way",
            "calls": "calls",
            "outcomes": "how they ended",
            "all": "Every number, with how it is made",
            "number": "number",
            "value": "value",
            "made": "how it is made",
            "source": "definition from",
            "sets": "What the formulas count",
            "measure": "in formulas",
            "records": "records",
            "nobody": "none",
            "of": "of",
            "more": "and {} more",
            "nothing": "no records",
            "second": "s",
        }
    ),
    ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"),
    MappingProxyType({}),
    MappingProxyType({}),
    MappingProxyType({}),
    MappingProxyType({}),
)

_HE: Final = Words(
    "he",
    "rtl",
    MappingProxyType(
        {
            "report": "דוח שיחות",
            "period": "תקופה",
            "to": "עד",
            "zone": "שעון",
            "wait": "זמני ההמתנה נלקחים מ-RingTime של הרשומה. "
            "לא תועד אם הוא כולל את כל ההמתנה בתור: מומלץ להשוות פעם אחת ל-CPanel.",
            "key numbers": "בקצרה",
            "hours": "שיחות מלקוחות לפי שעה בשבוע",
            "hours note": "ממוצע לשעה מסוגה בתקופה; כהה יותר הוא רב יותר",
            "lost": "שיעור נטישה לפי שעה בשבוע",
            "lost note": "מתוך השיחות שנכנסו לתור; כהה יותר הוא רב יותר",
            "days": "שיחות מלקוחות לפי יום",
            "days note": "נענו למטה, כל השאר למעלה",
            "levels": "רמת שירות ונטישה לפי יום",
            "levels note": "קו רציף: רמת שירות (שלילית); קו מקווקו: שיעור נטישה",
            "answered": "נענו",
            "other": "לא נענו",
            "queue": "תורים",
            "representative": "נציגים",
            "department": "מחלקות",
            "country": "מדינות יעד",
            "weekday": "ימי השבוע",
            "hour": "שעות",
            "menu": "מסלולים בתפריט הקולי",
            "path": "מסלול",
            "calls": "שיחות",
            "outcomes": "איך הסתיימו",
            "all": "כל המדדים ואיך הם מחושבים",
            "number": "מדד",
            "value": "ערך",
            "made": "חישוב",
            "source": "מקור ההגדרה",
            "sets": "מה נספר בנוסחאות",
            "measure": "בנוסחאות",
            "records": "רשומות",
            "nobody": "ללא",
            "of": "מתוך",
            "more": "ועוד {}",
            "nothing": "אין רשומות",
            "second": "שנ'",
            "told:speed_of_answer_p50": "ההמתנה הקצרה ביותר שאינה קצרה מזו של 50% מהשיחות שנענו בתור",
            "told:speed_of_answer_p90": "ההמתנה הקצרה ביותר שאינה קצרה מזו של 90% מהשיחות שנענו בתור",
            "told:speed_of_answer_max": "ההמתנה הארוכה ביותר של שיחה שנענתה בתור",
            "told:repeat_callers": "מתקשרים שנענו והתקשרו שוב ÷ מתקשרים שנענו",
            "told:unreturned_callers": "מתקשרים שממתינים לשיחה חוזרת ÷ מתקשרים שלא נענו לפחות פעם אחת",
            "told:time_to_callback": "שניות מהניסיון הראשון שלא נענה ועד השיחה החוזרת ÷ שיחות חוזרות",
            "told:time_to_callback_p50": "הזמן הקצר ביותר עד שיחה חוזרת שאינו קצר מזה של 50% מהן",
            "told:peak_concurrency": "המספר הרב ביותר של רשומות חופפות מתחילתן ועד תום הצלצול והשיחה",
        }
    ),
    ("ראשון", "שני", "שלישי", "רביעי", "חמישי", "שישי", "שבת"),
    MappingProxyType(
        {
            "records": "רשומות",
            "inbound_calls": "שיחות מלקוחות",
            "answered_calls": "שיחות מלקוחות שנענו",
            "outbound_calls": "שיחות ללקוחות",
            "reached_calls": "שיחות ללקוחות שנענו",
            "answer_rate": "שיעור מענה",
            "answer_rate_of_all": "שיעור מענה",
            "abandonment_rate": "שיעור נטישה",
            "exit_rate": "יצאו מהתור במקש",
            "lost_before_agent": "אבדו לפני נציג",
            "lost_customer_left": "אבדו: הלקוח עזב",
            "lost_we_refused": "אבדו: לא קיבלנו",
            "service_level_negative": "רמת שירות שלילית, {answer_within} שניות",
            "service_level_ignored": "רמת שירות מתעלמת, {answer_within} שניות",
            "service_level_positive": "רמת שירות חיובית, {answer_within} שניות",
            "speed_of_answer": "זמן ממוצע למענה",
            "abandon_time": "זמן ממוצע לנטישה",
            "handle_time": "זמן טיפול ממוצע",
            "handle_time_inbound": "זמן טיפול ממוצע, מלקוחות",
            "handle_time_outbound": "זמן טיפול ממוצע, ללקוחות",
            "talk_time": "זמן שיחה",
            "voicemail_rate": "שיעור תא קולי",
            "menu_rate": "הסתיימו בתפריט",
            "reach_rate": "לקוחות שהושגו",
            "dialer_reach": "חייגנים: לקוחות שהושגו",
            "handed_on_rate": "הועברו הלאה",
            "cost": "עלות",
            "cost_per_answered_call": "עלות לשיחה עם לקוח",
            "cost_per_talk_minute": "עלות לדקת שיחה",
            "recording_gap": "הקלטות חסרות",
            "speed_of_answer_p50": "זמן למענה, מחצית המתקשרים",
            "speed_of_answer_p90": "זמן למענה, תשעה מכל עשרה",
            "speed_of_answer_max": "ההמתנה הארוכה ביותר למענה",
            "repeat_callers": "מתקשרים חוזרים",
            "unreturned_callers": "לא נענו ואיש לא חזר אליהם",
            "time_to_callback": "זמן ממוצע עד שיחה חוזרת",
            "time_to_callback_p50": "זמן עד שיחה חוזרת, מחצית",
            "peak_concurrency": "שיא רשומות בו-זמנית",
        }
    ),
    MappingProxyType(
        {
            "answer_rate": "לשיחה, ללא שיחות שהסתיימו בתפריט",
            "answer_rate_of_all": "מכלל השיחות",
            "abandonment_rate": "ללא המתנה מתחת ל-{short_abandon} שניות",
            "exit_rate": "אינה נטישה: הלקוח בחר",
            "service_level_negative": "נטישות נזקפות לחובה",
            "service_level_ignored": "נטישות בתוך הזמן אינן נספרות",
            "service_level_positive": "נטישות בתוך הזמן נזקפות לזכות",
            "handle_time": "שיחה ועוד {after_call} שניות עבודה אחריה, שאינן ברשומה; 0: זמן שיחה",
            "handle_time_inbound": "שיחה ועוד {after_call} שניות עבודה אחריה",
            "handle_time_outbound": "שיחה ועוד {after_call} שניות עבודה אחריה",
            "reach_rate": "משך מעל 0: ANSWER עשוי לתאר את צד הנציג או מענה של מכונה",
            "dialer_reach": "שני החייגנים",
            "handed_on_rate": "מקטעים לשיחה שנענתה; אצל נציג: אלה שקיבל",
            "recording_gap": "קישור עשוי להגיע אחרי הרשומה",
            "repeat_callers": "תוך {repeat_within} (ימים); סוף התקופה אינו נספר, כי עוד לא ידוע מי יתקשר שוב",
            "unreturned_callers": "הניסיון האחרון לא נענה, ולא הייתה שיחה אחריו לשום כיוון",
            "time_to_callback": "מהניסיון הראשון שלא נענה ועד השיחה שהשיגה את המתקשר",
            "peak_concurrency": "כל המקטעים",
        }
    ),
    MappingProxyType(
        {
            "records": "רשומות",
            "inbound": "מלקוחות",
            "received": "התקבלו",
            "offered": "הוצעו",
            "answered": "נענו",
            "ended_in_menu": "הסתיימו בתפריט",
            "voicemail": "תא קולי",
            "queued": "נכנסו לתור",
            "refused": "נדחו",
            "queue_answered": "נענו בתור",
            "abandoned": "ננטשו",
            "timed_out": "תם הזמן",
            "left_queue": "יצאו במקש",
            "answered_in_time": "נענו בזמן",
            "abandoned_in_time": "ננטשו בזמן",
            "short_abandons": "נטישות קצרות",
            "wait_of_answered": "המתנת הנענים",
            "waits_of_answered": "נענו והמתנתם ידועה",
            "wait_of_abandoned": "המתנת הנוטשים",
            "waits_of_abandoned": "ננטשו והמתנתם ידועה",
            "outbound": "ללקוחות",
            "reached": "הושגו",
            "dialed": "חויגו",
            "dialer_reached": "הושגו בחייגן",
            "talk_inbound": "שיחה מלקוחות",
            "talk_outbound": "שיחה ללקוחות",
            "after_inbound": "עבודה אחרי נענו",
            "after_outbound": "עבודה אחרי הושגו",
            "talk": "שיחה",
            "handed_on": "הועברו",
            "price": "מחיר",
            "recorded": "להקלטה",
            "unrecorded": "ללא הקלטה",
        }
    ),
    MappingProxyType(
        {
            "records": "כל הרשומות",
            "inbound": "שיחות מלקוחות: סוגים 1, 8 ו-11",
            "received": "שיחות מסוג 1 ו-8",
            "offered": "שיחות מסוג 1 ו-8, ללא VOEND ו-TE",
            "answered": "שיחות מסוג 1 ו-8 עם ANSWER",
            "ended_in_menu": "שיחות עם VOEND או TE",
            "voicemail": "שיחות מסוג 11 או עם VOICEMAIL",
            "queued": "סוג 8 עם ANSWER, ABANDONE, TIMEOUT או EXIT",
            "refused": "סוג 8 עם FULL או JOINEMPTY",
            "queue_answered": "סוג 8 עם ANSWER",
            "abandoned": "סוג 8 עם ABANDONE",
            "timed_out": "סוג 8 עם TIMEOUT",
            "left_queue": "סוג 8 עם EXIT",
            "answered_in_time": "סוג 8 עם ANSWER אחרי המתנה של {answer_within} שניות לכל היותר",
            "abandoned_in_time": "סוג 8 עם ABANDONE אחרי המתנה של {answer_within} שניות לכל היותר",
            "short_abandons": "סוג 8 עם ABANDONE אחרי המתנה מתחת ל-{short_abandon} שניות",
            "wait_of_answered": "שניות המתנה של סוג 8 עם ANSWER",
            "waits_of_answered": "סוג 8 עם ANSWER והמתנה ידועה",
            "wait_of_abandoned": "שניות המתנה של סוג 8 עם ABANDONE",
            "waits_of_abandoned": "סוג 8 עם ABANDONE והמתנה ידועה",
            "outbound": "שיחות ללקוחות: סוגים 4, 10, 15 ו-17",
            "reached": "מתוכן, עם משך מעל 0",
            "dialed": "שיחות מסוג 15 ו-17",
            "dialer_reached": "מתוכן, עם משך מעל 0",
            "talk_inbound": "משך של שיחות מסוג 1 ו-8 עם ANSWER",
            "talk_outbound": "משך של שיחות ללקוחות",
            "after_inbound": "{after_call} שניות לכל שיחה שנענתה",
            "after_outbound": "{after_call} שניות לכל לקוח שהושג",
            "talk": "משך של כל המקטעים של שיחות מלקוחות ואליהם, מלבד אלה שמביאים את הנציג",
            "handed_on": "מקטעים מסוג 13, 22 ו-23 של שיחות מלקוחות",
            "price": "מחיר כל הרשומות, באגורות",
            "recorded": "רשומות עם RecordExpect ומשך מעל 0",
            "unrecorded": "מתוכן, ללא RecordURL",
        }
    ),
)

_WORDS: Final[Mapping[str, Words]] = {"en": _EN, "he": _HE}


def words_in(language: str) -> Words | None:
    """The words of a language, if the report speaks it."""
    return _WORDS.get(language)
