"""A report as CSV: one row per structure."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from service.reports.content import DoseMetrics, Report

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings that spreadsheets take for a formula; names of ROIs come from outside."""


def render_csv(report: Report) -> str:
    """Write a report's figures, comma-separated with CRLF ends (RFC 4180), doses in Gy.

    Columns of the reference and of the difference are there only if the report has a reference.
    """
    rows = []
    for structure in report.structures:
        row: dict[str, Any] = {
            "structure": _text(structure.name),
            "roi_name": _text(structure.roi_name),
            "kind": structure.kind,
            "volume_cc": structure.volume_cc,
            "prescription_gy": structure.prescription_gy,
            "mean_spread_gy": structure.mean_spread_gy,
        }
        if structure.predicted:
            row |= _columns("predicted", structure.predicted.metrics)
        if structure.reference:
            row |= _columns("reference", structure.reference.metrics)
        if structure.difference:
            row |= _columns("difference", structure.difference)
        rows.append(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, max(rows, key=len))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _columns(of: str, metrics: DoseMetrics) -> Mapping[str, float | None]:
    """One column per figure, named after the dose it belongs to."""
    figures = metrics.model_dump()
    volumes = figures.pop("volume_percent_at_gy")
    return {f"{of}_{name}": value for name, value in figures.items()} | {
        f"{of}_v{level}gy_percent": value for level, value in volumes.items()
    }


def _text(value: str) -> str:
    """Keep spreadsheets from reading a name as a formula."""
    return f"'{value}" if value.startswith(FORMULA_STARTS) else value
