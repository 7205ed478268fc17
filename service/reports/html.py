"""A report as one self-contained HTML page: no scripts, nothing fetched, ready to print on A4."""

import base64

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from model.case import Case
from service.reports.content import Report
from service.reports.figures import difference_png, dose_png, dvh_svg, isodoses_gy, structure_colours

TARGET_COLUMNS = (
    ("D98%", "d98_gy", 1),
    ("D95%", "d95_gy", 1),
    ("D50%", "d50_gy", 1),
    ("D2%", "d2_gy", 1),
    ("Dmean", "mean_gy", 1),
    ("Dmin", "min_gy", 1),
    ("Dmax", "max_gy", 1),
    ("V95%", "v95_percent", 1),
    ("V107%", "v107_percent", 1),
    ("HI", "homogeneity_index", 3),
    ("CI", "conformity_index", 3),
)
"""Heading, field of `DoseMetrics` and decimals; doses in Gy."""

ORGAN_COLUMNS = (
    ("Dmean", "mean_gy", 1),
    ("Dmax", "max_gy", 1),
    ("D0.1cc", "d0_1cc_gy", 1),
    ("D2cc", "d2cc_gy", 1),
    ("D2%", "d2_gy", 1),
    ("D50%", "d50_gy", 1),
    ("D95%", "d95_gy", 1),
    ("D98%", "d98_gy", 1),
    ("Dmin", "min_gy", 1),
)


def render_html(
    report: Report,
    case: Case,
    dose_gy: NDArray[np.floating],
    *,
    reference_gy: NDArray[np.floating] | None = None,
) -> str:
    """Lay a report out with its pictures.

    Parameters
    ----------
    report
        Of the same case and doses.
    case
        CT and structures of the pictures; its grid may have any aligned orientation.
    dose_gy
        (slices, rows, columns) predicted dose in Gy.
    reference_gy
        (slices, rows, columns) dose to compare with, in Gy.

    Raises
    ------
    ValueError
        If the outline or the highest prescribed target is empty, or the grid is oblique.
    """
    colours = structure_colours(report.structures)
    pictures = [("Predicted dose", dose_png(case, dose_gy, colours))]
    if reference_gy is not None:
        pictures.append(("Reference dose", dose_png(case, reference_gy, colours)))
        pictures.append(("Predicted minus reference", difference_png(case, dose_gy - reference_gy, colours)))
    environment = Environment(
        loader=PackageLoader("service.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "signed": _signed}
    return environment.get_template("report.html.jinja").render(
        report=report,
        colours=colours,
        # matplotlib drew it: the only markup that is not escaped.
        dvh=Markup(dvh_svg(report, colours)),  # noqa: S704
        pictures=[(title, base64.b64encode(png).decode()) for title, png in pictures],
        isodoses_gy=isodoses_gy(report.prescription.dose_gy),
        target_columns=TARGET_COLUMNS,
        organ_columns=ORGAN_COLUMNS,
    )


def _number(value: float | None, decimals: int) -> str:
    """Write with fixed decimals and a true minus sign; a dash for what is undefined."""
    return "–" if value is None else f"{value:z.{decimals}f}".replace("-", "−")


def _signed(value: float | None, decimals: int) -> str:
    """Write a difference with its sign; nothing for what is undefined."""
    if value is None:
        return ""
    return f"{value:+.{decimals}f}".replace("-", "−") if round(value, decimals) else _number(0.0, decimals)
