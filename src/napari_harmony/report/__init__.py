"""The report of a run: one HTML file that needs neither network nor other files, readable in light and dark."""

from __future__ import annotations

from napari_harmony.report.page import render_report

__all__ = ["render_report"]
