"""Phone numbers within texts, however they are spelled: in any script, with anything but letters between the digits.

Pure. A number has nine to fifteen digits. Between them may stand spaces, dashes, punctuation, symbols, invisible marks,
and the escapes that HTML, JSON and URLs write for these; a digit may be written as such an escape, too.
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from voicenter_cdr.calls.phones import normal_number

__all__ = ["FEWEST_DIGITS", "MOST_DIGITS", "decode_escapes", "digits_of", "find_numbers", "is_time", "to_ascii_digits"]

FEWEST_DIGITS, MOST_DIGITS = 9, 15
"""Digits of a number: Israel's shortest with an area code, and the longest there are (ITU E.164)."""

# The patterns below work on texts whose digits are ASCII (to_ascii_digits).
_URL_ESCAPE: Final = "%(?:[0-9A-Fa-f][A-Fa-f]|[A-Fa-f][0-9]|09|2[089]|[89][0-9])"
_MAIL_ESCAPE: Final = "=[C-F][0-9A-F](?:=[89AB][0-9A-F])+|=[0-9A-F][A-F]"
_ESCAPE: Final = (
    rf"&\#?\w{{1,8}};|\\u[0-9A-Fa-f]{{4}}|\\x[0-9A-Fa-f]{{2}}|\\[nrtbf]|{_URL_ESCAPE}|{_MAIL_ESCAPE}|<[^<>]{{1,40}}>"
)
"""Escapes that HTML, JSON, URLs and mails write for a separator."""
_ESCAPES: Final = re.compile(_ESCAPE)
_RUN: Final = re.compile(rf"[+(]{{0,3}}[0-9](?:(?:{_ESCAPE}|[\W_])*[0-9])*")
"""Digits with anything but letters between them."""
_NO_DIGITS: Final = re.compile("[^0-9]+")
_MOBILE: Final = "(?:(?:00)?972|0)5"
"""Begin of an Israeli mobile number, which eight digits follow."""
_DATE: Final = r"(?:(?:19|20)\d\d(?P<a>[-/.])[01]\d(?P=a)[0-3]\d|[0-3]\d(?P<b>[-/.])[01]\d(?P=b)(?:19|20)\d\d)"
_TIME: Final = r"[0-2]\d:[0-5]\d(?::[0-5]\d(?:[.,]\d{1,6})?)?(?:Z|\ ?[+-][0-2]\d:?[0-5]\d)?"
_WHOLE_TIME: Final = re.compile(f"{_DATE}|{_TIME}", re.ASCII)
_KEPT_OR_WHOLE: Final = re.compile(
    rf"(?P<date>(?<![^\s(\[{{<>\"',;=|A-Za-z]){_DATE}(?:(?:T|,?\ {{1,2}}){_TIME})?"
    r"(?![^\s)\]}<>\"',;=|A-Za-z.])(?!\.\d))"
    r"|(?P<whole>[+(]{0,3}(?:(?<![\d\0])(?:0\d{8,14}|972\d{8,12})(?![\d\0])"
    rf"|(?<![\d\0])(?=\d{{{MOST_DIGITS + 1}}})(?:{_MOBILE}\d{{8}})+"
    rf"|(?<![\w\0-]){_MOBILE}(?:[A-Za-z]?\d){{8}}(?![\w\0-])))",
    re.ASCII,
)
"""A date, also with a time of day, that stands by itself; or a number without gaps.

A mobile number is one also with other digits behind it, such as an extension, or with letters between its digits.
"""
_DIVIDERS: Final = (re.compile(r"[,;|/\n\r]+"), re.compile(r"\s+"))
"""Separators that may stand between two numbers as well as within one; the likeliest first."""

_PERCENT: Final = "%(?:25)*"
_NEXT: Final = rf"{_PERCENT}[89ABab][0-9A-Fa-f]"
_ENCODED: Final = re.compile(
    rf"(?P<url>{_PERCENT}(?:[0-7][0-9A-Fa-f]|[CDcd][0-9A-Fa-f]{_NEXT}|[Ee][0-9A-Fa-f]{_NEXT}{_NEXT}"
    rf"|[Ff][0-7]{_NEXT}{_NEXT}{_NEXT}))"
    r"|(?:&\#0{0,6}(?P<dec>\d{2,6});|&\#[xX]0{0,6}(?P<hex>[0-9A-Fa-f]{2,5});"
    r"|\\+(?:u\{0{0,6}(?P<js>[0-9A-Fa-f]{2,5})\}|u(?P<json>[0-9A-Fa-f]{4})|x(?P<c>[0-9A-Fa-f]{2})))",
    re.ASCII,
)
"""One character as URLs, HTML, JSON and programs write it."""
_INVISIBLE_LETTERS: Final = "\u115f\u1160\u3164\uffa0"
"""Letters to Unicode, which show as a space."""


def to_ascii_digits(text: str) -> str:
    """Return the text with ASCII digits in place of those of other scripts, each character in its place.

    Modifier letters and letters that nobody can see, which may stand between digits, become dashes.
    """
    return text if text.isascii() else "".join(map(_plain, text))


@functools.lru_cache(maxsize=4096)
def _plain(char: str) -> str:
    if char <= "\x7f":
        return char
    kind = unicodedata.category(char)
    if kind in ("Nd", "No"):  # also circled, raised and full-width ones
        value = unicodedata.numeric(char)
        return str(int(value)) if value in range(10) else char
    return "-" if kind == "Lm" or char in _INVISIBLE_LETTERS else char


def decode_escapes(text: str) -> str | None:
    """Return the text with characters in place of their escapes, digits at the end of theirs; ``None`` for none.

    The result has the length of the text. What stands before a digit is a character that is no part of a number;
    escapes of other characters become that character, as often as they are long, and a dash for what begins a number.
    """

    def plain(match: re.Match[str]) -> str:
        char = to_ascii_digits(_decoded(match))
        size = len(match[0])
        if char in "0123456789":
            return "\0" * (size - 1) + char
        return ("x" if char.isalnum() else "-" if char in "+(" else char) * size

    if "%" not in text and "&" not in text and "\\" not in text:
        return None
    made = to_ascii_digits(_ENCODED.sub(plain, text))
    return None if made == text else made


def _decoded(match: re.Match[str]) -> str:
    if match["url"]:
        data = unquote_to_bytes(re.sub("%(?:25)+", "%", match["url"]))
        return data.decode("utf-8", "replace")[:1] or "x"
    code = int(match["dec"]) if match["dec"] else int(match["hex"] or match["js"] or match["json"] or match["c"], 16)
    return chr(code) if code < 0x110000 else "x"


def is_time(text: str) -> bool:
    """Return whether a text is a date, or a time of day."""
    return _WHOLE_TIME.fullmatch(text) is not None


def digits_of(text: str) -> str:
    """Return the ASCII digits of a text."""
    return _NO_DIGITS.sub("", text)


def find_numbers(scanned: str) -> Iterator[tuple[int, int, str]]:
    """Yield where the numbers in a text are, and the one spelling of each, in order.

    Args:
        scanned: The text with ASCII digits (:func:`to_ascii_digits`, :func:`decode_escapes`).
    """
    at = 0
    for match in _KEPT_OR_WHOLE.finditer(scanned):
        yield from _found_between(scanned, at, match.start())
        if match["whole"]:
            yield match.start(), match.end(), _of(match[0])
        at = match.end()
    yield from _found_between(scanned, at, len(scanned))


def _of(text: str) -> str:
    return normal_number(digits_of(text)) or ""


def _found_between(scanned: str, start: int, end: int) -> Iterator[tuple[int, int, str]]:
    for match in _RUN.finditer(scanned, start, end):
        yield from _in_run(scanned, match.start(), match.end(), _DIVIDERS)


def _in_run(
    scanned: str, start: int, end: int, dividers: tuple[re.Pattern[str], ...]
) -> Iterator[tuple[int, int, str]]:
    """Yield the numbers in a run of digits with gaps: one, several, or none."""
    run = scanned[start:end]
    digits = digits_of(run)
    if len(digits) < FEWEST_DIGITS or (len(digits) > MOST_DIGITS and run.isdecimal()):
        return  # too few, or an id
    if not run.isdecimal():
        # Digits of an escape are no digits of the number, unless it takes them to make one.
        unescaped = _ESCAPES.sub(lambda match: " " * len(match[0]), run)
        if len(digits_of(unescaped)) < FEWEST_DIGITS:
            yield start, end, _of(digits)
            return
        run, digits = unescaped, digits_of(unescaped)
    parts = _parts(run, dividers[0]) if dividers else [(0, len(run))]
    sizes = [len(digits_of(run[first:last])) for first, last in parts]
    is_evident = any(_is_national(run[first:last]) for first, last in parts)
    if len(digits) <= MOST_DIGITS and not is_evident:
        yield start, end, _of(digits)
    elif max(sizes) < FEWEST_DIGITS or len(parts) == 1 or (min(sizes) < FEWEST_DIGITS and not is_evident):
        if dividers:
            yield from _in_run(scanned, start, end, dividers[1:])
        else:  # numbers can't be separated, so there is one name for all
            yield start, end, _of(digits)
    else:
        for is_small, group in itertools.groupby(range(len(parts)), lambda place: sizes[place] < FEWEST_DIGITS):
            places = list(group)
            spans = [(parts[places[0]][0], parts[places[-1]][1])] if is_small else [parts[p] for p in places]
            for first, last in spans:
                yield from _in_run(scanned, start + first, start + last, dividers[1:])


def _parts(run: str, divider: re.Pattern[str]) -> list[tuple[int, int]]:
    """Return where the parts of a run are that a divider leaves."""
    edges = [0, *itertools.chain.from_iterable(match.span() for match in divider.finditer(run)), len(run)]
    return [(first, last) for first, last in zip(edges[::2], edges[1::2], strict=True) if first < last]


def _is_national(part: str) -> bool:
    """Return whether a part is a number by itself: with its trunk zero, a country code or a plus."""
    digits = digits_of(part)
    is_long_enough = FEWEST_DIGITS <= len(digits) <= MOST_DIGITS
    return is_long_enough and (part.startswith("+") or digits.startswith(("0", "972")))
