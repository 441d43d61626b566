"""The report: the numbers of a period as one HTML page, in English or Hebrew."""

from __future__ import annotations

from voicenter_cdr.analytics.report.page import render
from voicenter_cdr.analytics.report.provenance import Provenance

__all__ = ["Provenance", "render"]
