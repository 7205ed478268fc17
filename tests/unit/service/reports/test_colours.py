import pytest

from service.reports.colours import LEAST_CONTRAST, OAR_COLOURS, TARGET_COLOURS, _luminance, readable, structure_colours
from service.reports.content import Report


def contrast(colour: str) -> float:
    return 1.05 / (_luminance(*(int(colour[k : k + 2], 16) for k in (1, 3, 5))) + 0.05)


@pytest.mark.parametrize("colour", ["#ffff00", "#ffffff", "#00ff00", "#c0c0c0", "#000000", "#7f1010"])
def test_every_colour_becomes_readable_on_white(colour: str) -> None:
    assert contrast(readable(colour)) >= LEAST_CONTRAST * 0.99
    if contrast(colour) >= LEAST_CONTRAST:
        assert readable(colour) == colour


def test_the_studys_own_colours_are_used_where_they_tell_structures_apart(report: Report) -> None:
    colours = structure_colours(report.structures)
    assert list(colours) == [structure.name for structure in report.structures]
    assert colours["PTV_4500"] == "#0000ff"
    assert colours["PTV_5000"] == TARGET_COLOURS[0]
    # Two yellows
    assert {colours["Rectum"], colours["Lens_L"], colours["Bladder"]} == set(OAR_COLOURS[:3])
    assert len(set(colours.values())) == len(colours)


def test_palettes_repeat(report: Report) -> None:
    many = [report.structures[2].model_copy(update={"name": f"ROI {k}"}) for k in range(30)]
    assert set(structure_colours(many).values()) <= set(OAR_COLOURS)
