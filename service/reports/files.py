"""All forms of a report, as files in a folder."""

from pathlib import Path

from model.dosimetry.goals import GoalSet
from service.reports.colours import structure_colours
from service.reports.content import Report, ReportMetadata
from service.reports.evaluation import build_report, normalisation
from service.reports.figures import draw_dvh, draw_pictures
from service.reports.html import render_html
from service.reports.layout import lay_out
from service.reports.pdf import render_pdf
from service.reports.subject import Doses, Subject, gamma_map
from service.reports.table import render_csv
from service.storage.layout import REPORT_CSV, REPORT_HTML, REPORT_JSON, REPORT_PDF


def write_report(
    subject: Subject, doses: Doses, metadata: ReportMetadata, goals: GoalSet | None, folder: Path
) -> Report:
    """Evaluate a dose and write its report as JSON, CSV, HTML and PDF.

    Raises
    ------
    ValueError
        If a dose does not fit the grid or is not finite, or the grid is oblique.
    """
    gamma = None
    if doses.reference_gy is not None:
        full_gy = normalisation(subject, doses.dose_gy).dose_gy or 1.0
        gamma = gamma_map(subject, doses.dose_gy, doses.reference_gy, full_gy)
    report = build_report(subject, doses, metadata, goals=goals, gamma=gamma)
    colours = structure_colours(report.structures)
    layout = lay_out(report, colours)
    dvh_svg = draw_dvh(report, colours)
    pictures = draw_pictures(subject, doses, report, gamma, colours)
    (folder / REPORT_JSON).write_text(report.model_dump_json(indent=2), encoding="utf-8")
    (folder / REPORT_CSV).write_text(render_csv(report), encoding="utf-8", newline="")
    (folder / REPORT_HTML).write_text(render_html(layout, dvh_svg, pictures), encoding="utf-8")
    (folder / REPORT_PDF).write_bytes(render_pdf(layout, dvh_svg, pictures, metadata.created_at))
    return report
