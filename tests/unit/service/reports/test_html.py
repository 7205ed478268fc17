import re
from html.parser import HTMLParser

import numpy as np
import pytest

from model.case import Case, Structure, VoxelGrid
from service.reports.content import ReportMetadata, build_report
from service.reports.html import render_html


class Outline(HTMLParser):
    """Collects tags with attributes, and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def page(case: Case, metadata: ReportMetadata) -> str:
    predicted = case.dose_gy * np.float32(0.98)
    report = build_report(case, predicted, metadata=metadata, reference_gy=case.dose_gy, spread_gy=predicted / 50)
    return render_html(report, case, predicted, reference_gy=case.dose_gy)


def test_page_stands_alone(page: str) -> None:
    outline = Outline(page)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in outline.tags}
    for _, attributes in outline.tags:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,"))
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"@import|url\((?!#)", page)


def test_page_says_what_matters(page: str) -> None:
    outline = Outline(page)
    for words in ("Predicted dose. Not for treatment decisions.", "simulated patients", "Spread between samples"):
        assert words in outline.text
    assert outline.text.count("PTV_5000") >= 3
    assert [tag for tag, _ in outline.tags].count("img") == 3
    assert [tag for tag, _ in outline.tags].count("svg") == 1
    assert "SECRET-PATIENT" not in page


def test_texts_from_the_study_are_escaped(page: str) -> None:
    assert '=HYPERLINK("x")<b>&' in Outline(page).text
    assert "the couch was <left> out" in Outline(page).text
    assert "<b>" not in page
    assert "<left>" not in page


def test_without_reference_there_is_one_picture(case: Case, metadata: ReportMetadata) -> None:
    page = render_html(build_report(case, case.dose_gy, metadata=metadata), case, case.dose_gy)
    outline = Outline(page)
    assert [tag for tag, _ in outline.tags].count("img") == 1
    assert "eference" not in outline.text


def test_orientation_of_the_grid_does_not_change_the_pictures(case: Case, metadata: ReportMetadata) -> None:
    # The same patient with slices from head to feet as the last axis, and columns to the patient's right.
    grid = VoxelGrid(
        (48, 40, 24), (2.5, 2.5, 3.0), (57.5, -50.0, 39.0), ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
    )
    assert grid.canonical().same_as(case.grid)
    turned = Case(
        hu=grid.from_canonical(case.hu),
        grid=grid,
        structures={
            name: Structure(name, grid.from_canonical(s.mask), s.kind, s.roi_name, s.roi_number)
            for name, s in case.structures.items()
        },
        prescription=case.prescription,
    )
    pages = [
        render_html(build_report(c, dose, metadata=metadata), c, dose)
        for c, dose in ((case, case.dose_gy), (turned, grid.from_canonical(case.dose_gy)))
    ]
    pictures = [re.findall(r"data:image/png;base64,[^\"]+", page) for page in pages]
    assert pictures[0] == pictures[1]
