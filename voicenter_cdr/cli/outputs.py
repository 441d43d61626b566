"""Results to files or standard output: complete or not at all, in UTF-8."""

from __future__ import annotations

import sys
from pathlib import Path

from voicenter_cdr._extras import import_extra
from voicenter_cdr._files import check_file, is_stream, write_atomic
from voicenter_cdr.cli.console import encode_utf8, write_stdout
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export.object_store import OBJECT_STORES, check_object, put_object, scheme_of

__all__ = ["check_excel", "check_output", "write_output"]


def check_output(output: str, *, is_binary: bool) -> None:
    """Refuse an output that can't be written: no folder, no library, bytes to a terminal. Spends no request."""
    if is_binary or output.lower().endswith(".xlsx"):
        import_extra("xlsxwriter", "excel", "An Excel workbook")
    if scheme_of(output) in OBJECT_STORES:
        check_object(output)
    elif output != "-" and not is_stream(Path(output)):
        check_file(Path(output).absolute())
    elif is_binary and sys.stdout.isatty():
        raise ConfigurationError("A workbook can't be shown on a terminal", hint="Name a file: -o calls.xlsx.")


def check_excel(shape: str, *, excel: bool, flag: str) -> None:
    """Refuse ``--excel`` where it would change nothing; ``flag`` is the one that chooses CSV."""
    if excel and shape != "csv":
        raise ConfigurationError(f"--excel is for CSV: name a .csv file, or choose one with {flag}")


def write_output(output: str, content: str | bytes) -> None:
    """Write a result to a file, which appears complete or not at all, or to standard output (``-``)."""
    if output != "-":
        data = content if isinstance(content, bytes) else encode_utf8(content)
        if scheme_of(output) in OBJECT_STORES:
            put_object(output, data)
        elif is_stream(Path(output)):
            Path(output).write_bytes(data)
        else:
            write_atomic(Path(output), data)
    elif isinstance(content, str):
        write_stdout(content)
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
