"""Names in any writing are drawn in the PDF; what no font has is written as its number, never as an empty box."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from pypdf import PageObject, PdfReader
from pypdf.generic import ContentStream

from service.reports import fonts, pdf
from service.reports.colours import structure_colours
from service.reports.content import Report
from service.reports.fonts import DEJAVU, EAST_ASIAN, fonts_for
from service.reports.layout import Layout, lay_out

OURS = (*DEJAVU, EAST_ASIAN)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>'
NAMES = "膀胱 小肠 右大腿骨頭 ぼうこう ﾎﾞｳｺｳ 방광 Мочевой пузырь ουροδόχος مثانة שלפוחית"


@pytest.fixture
def layout(report: Report) -> Layout:
    named = [s.model_copy(update={"name": NAMES, "roi_name": f"{NAMES} 2"}) for s in report.structures[:1]]
    report = report.model_copy(update={"structures": (*named, *report.structures[1:])})
    return lay_out(report, structure_colours(report.structures))


def drawn(content: bytes) -> tuple[str, int]:
    """Text of a PDF, and how many of its glyphs are the box that stands for a missing one."""
    pages = PdfReader(io.BytesIO(content)).pages
    return "".join(page.extract_text() for page in pages), sum(map(boxes, pages))


def boxes(page: PageObject) -> int:
    """Glyphs of number 0, ".notdef"."""
    count = 0
    for operands, operator in ContentStream(page.get_contents(), page.pdf).operations:
        if operator in {b"Tj", b"TJ"}:
            texts = operands[0] if operator == b"TJ" else operands
            for glyphs in (text.original_bytes for text in texts if hasattr(text, "original_bytes")):
                count += sum(glyphs[k : k + 2] == b"\0\0" for k in range(0, len(glyphs), 2))
    return count


def test_the_writings_of_the_world_are_drawn(layout: Layout, report: Report) -> None:
    text, missing = drawn(pdf.render_pdf(layout, SVG, (), report.metadata.created_at))
    assert missing == 0
    for name in ("膀胱", "小肠", "右大腿骨頭", "ぼうこう", "방광", "Мочевой", "ουροδόχος"):
        assert name in text
    assert pdf.NO_FONT.title not in text


def test_what_no_font_has_is_written_as_its_number(layout: Layout, report: Report, monkeypatch) -> None:
    monkeypatch.setattr(fonts, "findSystemFonts", list)
    layout = replace(layout, subtitle="กระ")
    text, missing = drawn(pdf.render_pdf(layout, SVG, (), report.metadata.created_at))
    assert missing == 0
    assert "[U+0E01][U+0E23][U+0E30]" in text
    assert pdf.NO_FONT.title in text
    # That boxes would be found
    monkeypatch.setattr(pdf, "fonts_for", lambda _: (OURS, ""))
    assert drawn(pdf.render_pdf(layout, SVG, (), report.metadata.created_at))[1] >= 3


def test_fonts_of_the_machine_are_used_where_ours_end(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "no.ttf").write_text("no font")
    monkeypatch.setattr(fonts, "findSystemFonts", lambda: [str(tmp_path / "no.ttf"), str(EAST_ASIAN)])
    monkeypatch.setattr(fonts, "_own_characters", lambda: frozenset(map(ord, "PTV ")))
    assert fonts_for("PTV") == (OURS, "")
    assert fonts_for("PTV 膀胱\n") == ((*OURS, EAST_ASIAN), "")


@pytest.mark.parametrize("character_set", ["gb2312", "big5", "shift_jis", "euc_kr"])
def test_every_letter_of_the_east_asian_standards_has_a_font(character_set: str, monkeypatch) -> None:
    monkeypatch.setattr(fonts, "findSystemFonts", list)
    every = bytes(range(0x80, 0x100))
    pairs = [bytes((first, second)) for first in every for second in range(0x40, 0xFF)]
    letters = {text for pair in pairs if (text := pair.decode(character_set, errors="ignore")).isalpha()}
    assert len(letters) > 5000
    assert fonts_for("".join(letters)) == (OURS, "")
