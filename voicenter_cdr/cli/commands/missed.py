"""Command ``missed``: the callers to call back."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from cyclopts import Parameter

from voicenter_cdr.cli.options import CONNECTION, MESSAGES, PERIOD, ConnectionOptions, OutputOptions
from voicenter_cdr.cli.periods import Period

__all__ = ["MISSED_EXAMPLES", "missed"]

Shape = Literal["jsonl", "csv", "xlsx", "table"]


def missed(
    *,
    output: Annotated[str, Parameter(name=("--output", "-o"), allow_leading_hyphen=True)] = "-",
    format_: Annotated[Shape | None, Parameter(name="--format")] = None,
    xlsx: bool = False,
    excel: bool = False,
    language: Literal["en", "he"] = "en",
    queue: Annotated[tuple[str, ...], Parameter()] = (),
    menu: bool = False,
    voicemail: bool = False,
    from_copy: str | None = None,
    period: Annotated[Period, Parameter(name="*", group=PERIOD)] = Period(),
    connection: Annotated[ConnectionOptions, Parameter(name="*", group=CONNECTION)] = ConnectionOptions(),
    messages: Annotated[OutputOptions, Parameter(name="*", group=MESSAGES)] = OutputOptions(),
) -> None:
    """List the callers to call back: missed, and not reached since.

    One line for each caller, the longest waiting first; spellings of one number count as one caller. A conversation in
    either direction settles a missed call. Choose a period of some days: only its records show who was reached.

    Args:
        output: File to write; - is standard output, the default.
        format_: jsonl, csv, xlsx or table. Default: by the name of the file, a table on a terminal, else jsonl.
        xlsx: An Excel workbook, with local times: the same as --format xlsx.
        excel: CSV for spreadsheets: byte order mark, CR LF, formulas made harmless, times in --tz as in a workbook.
        language: Language of the workbook: en or he.
        queue: Only callers whose last call was to this queue, by name, in any case. May be repeated. A name that no
            record of the period has is refused, as is any name if the period has no records.
        menu: Also callers who hung up in the voice menu.
        voicemail: Also callers who left a message.
        from_copy: Read a copy that sync or export wrote instead of the service: a file, a folder, postgresql://…, s3://…,
            gs://… or az://…. Spends no request. Without a period, all of it.
    """
    from voicenter_cdr.cli.commands.calling_back import write_missed  # --help needs no numbers, which take long to load

    write_missed(
        output=output,
        shape="xlsx" if xlsx else format_,
        excel=excel,
        language=language,
        queue=queue,
        menu=menu,
        voicemail=voicemail,
        from_copy=from_copy,
        period=period,
        connection=connection,
        messages=messages,
    )


MISSED_EXAMPLES: Final = """\
Examples:

  voicenter-cdr missed --demo --last 7d
  voicenter-cdr missed --period this-week --queue Sales
  voicenter-cdr missed --last 3d -o call-back.xlsx
"""
