import re
from html.parser import HTMLParser

import pytest

from service.reports.colours import structure_colours
from service.reports.content import Report
from service.reports.figures import draw_dvh, draw_pictures
from service.reports.html import render_html
from service.reports.layout import lay_out
from service.reports.subject import Doses, GammaMap, Subject


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
def page(subject: Subject, doses: Doses, report: Report, gamma: GammaMap) -> str:
    colours = structure_colours(report.structures)
    pictures = draw_pictures(subject, doses, report, gamma, colours)
    return render_html(lay_out(report, colours), draw_dvh(report, colours), pictures)


def test_page_stands_alone(page: str) -> None:
    outline = Outline(page)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in outline.tags}
    for _, attributes in outline.tags:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/jpeg;base64,"))
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"@import|url\((?!#)", page)


def test_page_says_what_matters(page: str) -> None:
    outline = Outline(page)
    for words in ("Predicted dose. Not for treatment decisions.", "simulated patients", "Spread between samples"):
        assert words in outline.text
    assert outline.text.count("PTV_5000") >= 3
    assert [tag for tag, _ in outline.tags].count("img") == 4
    assert [tag for tag, _ in outline.tags].count("svg") == 1
    assert "SECRET-PATIENT" not in page


def test_texts_from_the_study_are_escaped(page: str) -> None:
    assert '=HYPERLINK("x")<b>&' in Outline(page).text
    assert "the couch was <left> out" in Outline(page).text
    assert "<b>" not in page
    assert "<left>" not in page
