"""Which fonts a PDF needs, and which characters none of them has."""

from functools import cache
from importlib.resources import files
from pathlib import Path

import matplotlib as mpl
from matplotlib.font_manager import findSystemFonts
from matplotlib.ft2font import FT2Font

DEJAVU = tuple(Path(mpl.get_data_path(), "fonts", "ttf", f"DejaVuSans{face}.ttf") for face in ("", "-Bold"))
"""Matplotlib's own font, which the pictures are lettered with: Latin, Greek, Cyrillic, Arabic, Hebrew …"""

EAST_ASIAN = Path(str(files("service.web").joinpath("vendor")), "WenQuanYiMicroHei.ttf")
"""Chinese, Japanese and Korean; the page has it, too."""


def fonts_for(text: str) -> tuple[tuple[Path, ...], str]:
    """Find fonts for a text: `DEJAVU`, `EAST_ASIAN`, and the machine's for what neither has.

    Returns
    -------
    fonts, missing
        Font files, and the characters that no font has.
    """
    wanted = {ord(character) for character in text if character.isprintable()} - _own_characters()
    found = []
    # Fonts of last resort have a box for everything
    for path in (p for p in sorted(findSystemFonts()) if "LastResort" not in p) if wanted else ():
        try:
            covered = wanted & FT2Font(path).get_charmap().keys()
        except (OSError, RuntimeError):
            # What FreeType cannot read serves nobody
            continue
        if covered:
            found.append(Path(path))
            wanted -= covered
    return (*DEJAVU, EAST_ASIAN, *found), "".join(map(chr, sorted(wanted)))


@cache
def _own_characters() -> frozenset[int]:
    return frozenset(code for path in (DEJAVU[0], EAST_ASIAN) for code in FT2Font(path).get_charmap())
