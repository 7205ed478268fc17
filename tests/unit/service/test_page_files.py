"""The page's files: nothing from elsewhere, nothing inline, everything announced, colours that can be read."""

import re
from pathlib import Path

import pytest

WEB = Path(__file__).resolve().parents[3] / "service" / "web"
OURS = [path for path in WEB.rglob("*") if path.suffix in {".js", ".css", ".html"} and path.parent.name != "vendor"]

READ = [
    *((ink, ground) for ink in ("ink", "muted", "accent") for ground in ("ground", "surface", "raised")),
    *(("bad", "surface"), ("good", "surface"), ("on-accent", "accent"), ("ink", "bad-ground"), ("muted", "bad-ground")),
    *(
        ("bad", "bad-ground"),
        ("good", "good-ground"),
        ("busy", "busy-ground"),
        ("muted", "raised"),
        ("ink", "note-ground"),
    ),
]
"""Texts and what they stand on: WCAG 2.2 asks for 4.5 to 1 (1.4.3)."""

SEEN = [("edge", "surface"), ("accent", "surface"), ("accent", "ground"), ("note-edge", "note-ground")]
"""Borders of controls and marks of the focus: 3 to 1 (1.4.11)."""


def colours(theme: str) -> dict[str, str]:
    css = (WEB / "page.css").read_text(encoding="utf-8")
    blocks = {"light": r":root \{(.*?)\n\}", "dark": r'\[data-theme="dark"\] \{(.*?)\n\}'}
    found: dict[str, str] = {}
    for name in dict.fromkeys(("light", theme)):
        block = re.search(blocks[name], css, re.DOTALL)
        assert block is not None
        found |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block[1]))
    return found


def luminance(colour: str) -> float:
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_can_be_read(theme: str) -> None:
    named = colours(theme)
    for pairs, least in ((READ, 4.5), (SEEN, 3.0)):
        for one, other in pairs:
            assert contrast(named[one], named[other]) >= least, (one, other)
    assert contrast("#ffffff", named["alarm"]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_of_structures_can_be_seen_on_the_page_and_on_black(theme: str) -> None:
    text = (WEB / "viewer" / "colours.js").read_text(encoding="utf-8")
    palette = re.findall(r"#[0-9a-f]{6}", text[text.index("const TARGETS") : text.index("const DARKEST")])
    assert len(palette) > 15
    for colour in palette:
        assert contrast(colour, colours(theme)["surface"]) >= 3.0, colour
        assert contrast(colour, "#000000") >= 3.0, colour


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.relative_to(WEB).as_posix())
def test_nothing_comes_from_elsewhere_or_stands_inline(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/", "")
    assert not re.search(r"https?://|innerHTML|\beval\(|new Function", text)
    if path.suffix == ".html":
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script>", text)


def test_every_module_is_announced_so_that_none_waits_for_another() -> None:
    page = (WEB / "index.html").read_text(encoding="utf-8")
    announced = set(re.findall(r'<link rel="modulepreload" href="/web/([^"]+)">', page))
    modules = {path.relative_to(WEB).as_posix() for path in OURS if path.suffix == ".js"}
    assert announced == modules - {"main.js", "theme.js", "docs.js"}
