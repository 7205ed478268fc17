"""A report as CSV: one row per structure."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from service.reports.content import CC, GY, INDEX, PERCENT, SIMULATED, DoseMetrics, GoalResult, Report

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings that spreadsheets take for a formula; names of ROIs come from outside."""


def render_csv(report: Report) -> str:
    """Write a report's figures, comma-separated with CRLF ends (RFC 4180), with the decimals of the other forms.

    Columns of the reference and of the difference are there only if the report has a reference. The last columns hold
    the goals that name the structure and, as every form of a report, what the dose is not good for.
    """
    notice = report.disclaimer
    if report.metadata.simulated_training_data:
        notice += f" Simulated data. {SIMULATED}"
    rows = []
    for structure in report.structures:
        row: dict[str, Any] = {
            "number": structure.number,
            "structure": _text(structure.name),
            "roi_name": _text(structure.roi_name),
            "kind": structure.kind,
            "volume_cc": _number(structure.volume_cc, CC),
            "prescription_gy": _number(structure.prescription_gy, GY),
            "mean_spread_gy": _number(structure.mean_spread_gy, GY),
        }
        if structure.dose:
            row |= _columns("dose", structure.dose.metrics)
        if structure.reference:
            row |= _columns("reference", structure.reference.metrics)
        if structure.difference:
            row |= _columns("difference", structure.difference)
        if report.goals:
            named = [g for g in report.goals.results if structure.name in g.structure.split(" or ")]
            row["goals"] = "; ".join(map(_goal, named))
        row["notice"] = notice
        rows.append(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(column for row in rows for column in row)))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _columns(of: str, metrics: DoseMetrics) -> Mapping[str, str]:
    """One column per figure, named after the dose it belongs to."""
    figures = metrics.model_dump()
    volumes = figures.pop("volume_percent_at_gy")
    decimals = {"gy": GY, "percent": PERCENT, "index": INDEX}
    columns = {f"{of}_{name}": _number(value, decimals[name.split("_")[-1]]) for name, value in figures.items()}
    return columns | {f"{of}_v{level}gy_percent": _number(value, PERCENT) for level, value in volumes.items()}


def _goal(result: GoalResult) -> str:
    decimals = GY if result.unit == "Gy" else PERCENT
    limit = f"{result.metric} {'<=' if result.at_most else '>='} {_number(result.limit, decimals)} {result.unit}"
    if result.margin is None:
        return f"{limit} not evaluated"
    return f"{limit} {'met' if result.met else 'missed'} by {_number(abs(result.margin), decimals)}"


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:z.{decimals}f}"


def _text(value: str) -> str:
    """Keep spreadsheets from reading a name as a formula."""
    return f"'{value}" if value.startswith(FORMULA_STARTS) else value
