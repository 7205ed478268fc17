"""A report as PDF on A4, set by Typst: text that can be searched, vector curves, tags for screen readers."""

import dataclasses
import json
from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import typst

from service.reports.figures import Picture
from service.reports.fonts import fonts_for
from service.reports.layout import Layout, Note

TEMPLATE = "templates/report.typ"

NO_FONT = Note(
    "Characters without a font",
    ("No font on the machine that made this file has some characters of the study; their Unicode numbers stand here.",),
)


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
    fonts, missing = fonts_for(json.dumps(dataclasses.asdict(layout), ensure_ascii=False))
    if missing:
        layout = dataclasses.replace(layout, notes=(*layout.notes, NO_FONT))
    names = [f"picture-{k}.jpg" for k in range(len(pictures))]
    data = dataclasses.asdict(layout) | {
        "pictures": [
            {"group": picture.group, "title": picture.title, "caption": picture.caption, "file": name}
            for picture, name in zip(pictures, names, strict=True)
        ]
    }
    text = json.dumps(data, ensure_ascii=False).translate({ord(c): f"[U+{ord(c):04X}]" for c in missing})
    sources = {
        "main.typ": files("service.reports").joinpath(TEMPLATE).read_bytes(),
        # What Typst is given as data it never takes for markup
        "layout.json": text.encode(errors="replace"),
        "dvh.svg": dvh_svg.encode(),
        **{name: picture.jpeg for name, picture in zip(names, pictures, strict=True)},
    }
    with TemporaryDirectory() as folder:
        for name, content in sources.items():
            Path(folder, name).write_bytes(content)
        for number, font in enumerate(fonts):
            Path(folder, f"{number}{font.suffix}").symlink_to(font)
        return typst.compile(
            str(Path(folder, "main.typ")),
            root=folder,
            format="pdf",
            # No others, of which it is not known what they have: the compiler draws boxes without a word
            font_paths=[folder],
            ignore_system_fonts=True,
            timestamp=created_at.replace(microsecond=0),
        )
