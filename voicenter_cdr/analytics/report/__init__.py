"""The report: the numbers of a period as one HTML page, in English or Hebrew."""

from __future__ import annotations

from voicenter_cdr.analytics.report.page import render
from voicenter_cdr.analytics.report.provenance import Filter, Provenance, leave_out, numbers_left_out

__all__ = ["Filter", "Provenance", "leave_out", "numbers_left_out", "render"]
