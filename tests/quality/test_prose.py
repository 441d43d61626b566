"""Prose of the package: standard words, docstrings that begin as a reference does, and dense code that says why."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.sources import MODULES, PACKAGE, ROOT, nodes_of, text_of, tokens_of

OTHERS = sorted(
    {path for folder in ("tests", "benchmarks", ".docs") for path in (ROOT / folder).rglob("*.py")} - {Path(__file__)}
)
"""Modules of tests, benchmarks and the documentation, but this one, which names what is not said."""
PAGES = [
    ROOT / "README.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / ".docs").rglob("*.md")),
    *sorted((ROOT / ".github").rglob("*.md")),
]
_PRIVATE_NAMES = frozenset(
    re.findall(
        r"\w+",
        """
    AFRESH ErrorGate EARNED Leaf Looks Outlet PageFacts RawAnswer Rung SlotWindow TWIN Tally Terms Turns
    Verdict _Door _Discreet _Draft _Lanes _Network _Outlet _Pace _Piece _Seen _Taken _Way _alone _blame _border
    _carefully _climb_again _concerned _crowded _doubt _doubtful _fitting _gate _hire _hush _lane _lanes _mend _mended
    _news _noted _on_ladder _on_twin _pace _paid _paying _pooled _pulled _said _seized _spellings _stories
    _through_gate _together _turns _understood _whole_until _worth_another bytes_to checked_address climb discreetly
    doubts flying give_back hurried keep_held ladder lanes leaf leaf_ending let_go meets mend misfit odd open_leaf
    outlet raster rung said slot state_of telling telling_of terms told trimmed urgent whole_rows whole_until worded
    write_whole
        """,
    )
)
"""Names that this package once had for things the field has a word for, in place of the word."""
_TURNS = {
    r"told": "said, reported, counted",
    r"from where to": "the position to",
    r"whoever": "anybody who, a reader, a writer",
    r"anew": "again",
    r"made[- ]up": "synthetic",
    r"mends?|mended": "hint, fix",
    r"makes? no sense": "is invalid",
    r"asking again": "retrying",
    r"what (?:came|comes|has come|is there|was there)": "the records, the response, the existing files",
    r"(?:clock|system|file|header|records?) (?:can )?tells?": "shows, has, names",
    r"can't be told|can't tell": "is unknown, can't show",
    r"tells? (?:nothing|none|it|them|what|which|how|whether)": "shows, proves, gives, reports",
    r"so many (?:seconds|days|records|requests)": "this number of",
    r"thinks in": "uses",
    r"to be had": "available",
    r"passed off": "presented",
}
"""Turns that are no idiomatic English, or mean a term of the field; and words to use instead."""
_TURN = re.compile(rf"\b(?:{'|'.join(_TURNS)})\b", re.I)
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.S | re.M)
_TEXTS = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
_QUESTION = re.compile(r"(What|Whether|How|Which|Who)\b")
_QUOTED_QUESTION = re.compile(rf"""["'](?:\\?\s)*{_QUESTION.pattern}""")
_LONGEST = 500


def _docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Docstrings of modules, classes and functions, and the strings below attributes."""
    for node in nodes_of(path):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield getattr(node, "lineno", 1), (ast.get_docstring(node, clean=False) or "").lstrip()
            for line, behind in zip(node.body, node.body[1:], strict=False):
                if (
                    isinstance(line, ast.Assign | ast.AnnAssign)
                    and isinstance(behind, ast.Expr)
                    and isinstance(behind.value, ast.Constant)
                ):
                    yield behind.lineno, str(behind.value.value)


def _place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_docstrings_begin_with_a_verb_or_a_noun() -> None:
    """A docstring that begins with a question word reads like a riddle."""
    odd = [
        f"{_place(path, line)}: {text[:60]}"
        for path in [*MODULES, *OTHERS]
        if _QUOTED_QUESTION.search(text_of(path))  # parsing all would take seconds
        for line, text in _docstrings(path)
        if _QUESTION.match(text)
    ]
    assert odd == []


def _prose(path: Path) -> Iterator[tuple[int, str]]:
    """Comments and texts of a module; f-strings without their fields."""
    for token in tokens_of(path):
        if token.type in _TEXTS:
            plain = re.sub(r"\{[^{}]*\}", "", token.string)
            yield token.start[0], re.sub(r"``[^`]*``", "", plain)


def test_names_are_those_of_the_field() -> None:
    """A private word for a thing that the field names does not come back as an identifier."""
    suspects = [path for path in MODULES if not _PRIVATE_NAMES.isdisjoint(re.findall(r"\w+", text_of(path)))]
    found = [
        f"{_place(path, token.start[0])}: {token.string}"
        for path in suspects
        for token in tokens_of(path)
        if token.type == tokenize.NAME and token.string in _PRIVATE_NAMES
    ]
    assert found == []


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Prose of a module, or of a page without its code."""
    if path.suffix != ".md":
        return _prose(path)
    text = _CODE.sub(lambda code: "\n" * code[0].count("\n"), text_of(path))
    return iter(enumerate(text.splitlines(), start=1))


def test_prose_has_no_private_turns() -> None:
    """Turns that only this package once used do not come back in docstrings, comments, messages or pages."""
    odd = [
        f"{_place(path, line)}: {turn[0]!r}"
        for path in [*MODULES, *OTHERS, *PAGES]
        for line, text in _lines(path)
        for turn in [_TURN.search(text)]
        if turn
    ]
    assert odd == []


def test_files_fit_five_hundred_lines() -> None:
    """A file that needs more holds two subjects."""
    sizes = {path.name: len(text_of(path).splitlines()) for path in MODULES}
    assert {name: lines for name, lines in sizes.items() if lines > _LONGEST} == {}


@pytest.mark.parametrize(
    "name",
    [
        "core/planning/planner.py",
        "core/ratelimit/scheduler.py",
        "core/protocol/rows.py",
        "core/protocol/json_stream.py",
    ],
)
def test_dense_modules_say_why(name: str) -> None:
    """At least four percent of the lines of dense code are comments."""
    lines = [line.strip() for line in text_of(PACKAGE / name).splitlines() if line.strip()]
    comments = [line for line in lines if "# " in line and not line.startswith(('"', "'"))]
    assert len(comments) >= 0.04 * len(lines)
