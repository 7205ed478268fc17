"""A report as one self-contained HTML page: no scripts, nothing fetched, ready to print on A4."""

import base64
from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from service.reports.figures import Picture
from service.reports.layout import Layout


def render_html(layout: Layout, dvh_svg: str, pictures: Sequence[Picture]) -> str:
    """Lay a report out with its pictures.

    Parameters
    ----------
    layout
        The texts.
    dvh_svg
        From `service.reports.figures.draw_dvh`.
    pictures
        The sections.
    """
    environment = Environment(
        loader=PackageLoader("service.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja").render(
        layout=layout,
        # matplotlib drew it: the only markup that is not escaped.
        dvh=Markup(dvh_svg),  # noqa: S704
        pictures=[(picture, base64.b64encode(picture.jpeg).decode()) for picture in pictures],
    )
