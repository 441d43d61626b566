"""Text files in memory."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from voicenter_cdr import Cdr
from voicenter_cdr.export import CsvSink, JsonlSink, committing


def written(kind: type[JsonlSink | CsvSink], batches: Sequence[Sequence[Cdr]], **options: Any) -> bytes:
    out = io.BytesIO()
    with committing(kind(out, **options)) as sink:
        for batch in batches:
            sink.write(batch)
    return out.getvalue()
