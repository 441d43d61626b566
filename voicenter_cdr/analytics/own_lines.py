"""The company's own lines in SQL: the numbers that callers dialled."""

from __future__ import annotations

from voicenter_cdr.analytics.dialects import quote_list, quote_text
from voicenter_cdr.calls import NO_TRUNK_ZERO, SEPARATORS

__all__ = ["list_own_lines"]


def list_own_lines() -> str:
    """Return the query of the company's own lines, each number in its one spelling."""
    plain = "did"
    for sign in SEPARATORS:
        if sign.isprintable():
            plain = f"replace({plain}, {quote_text(sign)}, '')"
    free = " OR ".join(
        f"(length(text) = {length} AND substr(text, 1, 4) IN ({quote_list(beginnings)}))"
        for length, beginnings in NO_TRUNK_ZERO.items()
    )
    no_star = "'0', '1', '7', '*'"
    return f"""SELECT DISTINCT CASE
        WHEN text LIKE '9720%' AND length(text) IN (12, 13) THEN '972' || substr(text, 5)
        WHEN text LIKE '0%' AND length(text) IN (9, 10) AND substr(text, 2, 1) <> '0' THEN '972' || substr(text, 2)
        WHEN {free} THEN '972' || text
        WHEN length(text) = 4 AND substr(text, 1, 1) NOT IN ({no_star}) THEN '*' || text
        WHEN length(text) = 7 AND text LIKE '972%' AND substr(text, 4, 1) NOT IN ({no_star}) THEN '*' || substr(text, 4)
        WHEN text LIKE '972*____' THEN substr(text, 4)
        ELSE text END
    FROM (
        SELECT CASE WHEN plain LIKE '00%' AND length(plain) > 10 THEN substr(plain, 3) ELSE plain END AS text
        FROM (SELECT {plain} AS plain FROM (SELECT DISTINCT did FROM timed WHERE did <> '') AS dialled) AS plains
    ) AS texts"""
