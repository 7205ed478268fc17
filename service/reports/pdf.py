"""A report as PDF on A4, set by Typst: text that can be searched, vector curves, tags for screen readers."""

import dataclasses
import json
from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib as mpl
import typst

from service.reports.figures import Picture
from service.reports.layout import Layout

TEMPLATE = "templates/report.typ"


def render_pdf(layout: Layout, dvh_svg: str, pictures: Sequence[Picture], created_at: datetime) -> bytes:
    """Lay a report out with its pictures; the same report gives the same bytes.

    Parameters
    ----------
    layout
        The texts.
    dvh_svg
        From `service.reports.figures.draw_dvh`.
    pictures
        The sections.
    created_at
        For the PDF's own data.
    """
    names = [f"picture-{k}.jpg" for k in range(len(pictures))]
    data = dataclasses.asdict(layout) | {
        "pictures": [
            {"group": picture.group, "title": picture.title, "caption": picture.caption, "file": name}
            for picture, name in zip(pictures, names, strict=True)
        ]
    }
    sources = {
        "main.typ": files("service.reports").joinpath(TEMPLATE).read_bytes(),
        # What Typst is given as data it never takes for markup
        "layout.json": json.dumps(data).encode(),
        "dvh.svg": dvh_svg.encode(),
        **{name: picture.jpeg for name, picture in zip(names, pictures, strict=True)},
    }
    with TemporaryDirectory() as folder:
        for name, content in sources.items():
            Path(folder, name).write_bytes(content)
        return typst.compile(
            str(Path(folder, "main.typ")),
            root=folder,
            format="pdf",
            # Matplotlib's own font, as in the pictures; the machine's fonts have the letters that it lacks
            font_paths=[str(Path(mpl.get_data_path()) / "fonts" / "ttf")],
            timestamp=created_at.replace(microsecond=0),
        )
