import io

import pytest
from pypdf import PdfReader

from service.reports.colours import structure_colours
from service.reports.content import Report
from service.reports.figures import draw_dvh, draw_pictures
from service.reports.layout import lay_out
from service.reports.pdf import render_pdf
from service.reports.subject import Doses, GammaMap, Subject


@pytest.fixture
def pdf(subject: Subject, doses: Doses, report: Report, gamma: GammaMap) -> bytes:
    colours = structure_colours(report.structures)
    pictures = draw_pictures(subject, doses, report, gamma, colours)
    arguments = (lay_out(report, colours), draw_dvh(report, colours), pictures, report.metadata.created_at)
    first = render_pdf(*arguments)
    assert render_pdf(*arguments) == first
    return first


def test_every_page_says_what_it_is(pdf: bytes, report: Report) -> None:
    pages = PdfReader(io.BytesIO(pdf)).pages
    for number, page in enumerate(pages, start=1):
        text = page.extract_text()
        assert report.disclaimer in text
        assert f"Page {number} of {len(pages)}" in text
        width, height = (float(side) / 72 * 25.4 for side in page.mediabox[2:])
        assert (width, height) == pytest.approx((210, 297), abs=0.1)


def test_texts_from_the_study_are_no_markup(pdf: bytes) -> None:
    text = "".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages)
    assert '=HYPERLINK("x")<b>&' in text
    assert "the couch was <left> out" in text
    assert "SECRET-PATIENT" not in text


def test_pictures_and_tables_are_told_to_those_who_do_not_see_them(pdf: bytes) -> None:
    catalogue = PdfReader(io.BytesIO(pdf)).trailer["/Root"]
    assert catalogue["/MarkInfo"]["/Marked"]
    assert catalogue["/Lang"] == "en"
    assert b"/Alt" in pdf or "/StructTreeRoot" in catalogue
