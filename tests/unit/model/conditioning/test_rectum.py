"""The rectum site: names as clinics write them, and what its images show."""

from dataclasses import dataclass

import pytest

from model.conditioning.rectum import CHANNELS, GRID, SITE
from model.conditioning.site import match_structures
from model.errors import SiteError
from model.training.slices import flipped_channels


@dataclass(frozen=True)
class Roi:
    number: int
    name: str
    interpreted_type: str = ""
    contour_count: int = 10


def rois(*names: str) -> list[Roi]:
    return [Roi(number, name) for number, name in enumerate(names, start=1)]


@pytest.mark.parametrize(
    "names",
    [
        ("Bladder", "Femur_Head_R", "Femur_Head_L", "Bowel_Small"),
        ("Harnblase", "Hüftkopf re", "Hüftkopf li", "Dünndarm"),
        ("urinary bladder", "RT FEMORAL HEAD", "LT FEMORAL HEAD", "small bowel"),
        ("Vessie", "Tête fémorale D", "Tête fémorale G", "Intestin grêle"),
    ],
)
def test_spellings(names):
    match = match_structures(SITE, rois("BODY", "PTV_5000", *names))
    found = {name: m.roi_name for name, m in match.structures.items() if m.kind == "oar"}
    assert found == dict(zip([organ.name for organ in SITE.organs], names, strict=True))
    assert match.missing == ()


def test_a_study_of_a_prostate_is_refused():
    with pytest.raises(SiteError, match="Bowel_Small"):
        match_structures(SITE, rois("BODY", "PTV", "Bladder", "Femur_Head_R", "Femur_Head_L", "Rectum", "PenileBulb"))


def test_the_papers_images():
    assert (GRID.rows, GRID.columns, GRID.slice_spacing_mm) == (256, 256, 3.0)
    assert len(set(CHANNELS)) == len(CHANNELS)
    names = [channel.name for channel in CHANNELS]
    mirrored = [names[k] for k in flipped_channels(CHANNELS)]
    assert mirrored[names.index("Femur_Head_R")] == "Femur_Head_L"
    assert mirrored[names.index("Bladder")] == "Bladder"
