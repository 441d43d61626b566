"""The report: the numbers of a period as one HTML page, in English or Hebrew."""

from __future__ import annotations

from voicenter_cdr.analytics.report.page import render

__all__ = ["render"]
