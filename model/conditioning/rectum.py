"""The paper's site: rectum, four organs, one target level, full arcs; 256 × 256 pixels, slices of 3 mm."""

from model.checkpoint.manifest import Channel, NetworkGrid, Normalisation
from model.conditioning.site import Site, SiteOrgan, TargetLevel

_FEMORAL_HEAD = (
    *("Femur Head", "Femoral Head", "Fem Head", "FH", "Head of Femur", "Caput femoris", "Femurkopf", "Hüftkopf"),
    *("Hueftkopf", "Heupkop", "Femurkop", "Tete femorale", "Tête fémorale", "Testa femorale", "Testa femore"),
    *("Cabeza femoral", "Cabeza femur"),
)

SITE = Site(
    name="rectum",
    organs=(
        SiteOrgan(
            name="Bladder",
            synonyms=(
                *("Urinary Bladder", "Harnblase", "Blase", "Blaas", "Vessie", "Vescica", "Vejiga", "Vesica"),
                *("Vesica urinaria",),
            ),
        ),
        SiteOrgan(name="Femur_Head_R", synonyms=(*(f"{name} right" for name in _FEMORAL_HEAD), "Tete femorale D")),
        SiteOrgan(name="Femur_Head_L", synonyms=(*(f"{name} left" for name in _FEMORAL_HEAD), "Tete femorale G")),
        SiteOrgan(
            name="Bowel_Small",
            synonyms=(
                *("Small Bowel", "Small Intestine", "Intestine Small", "Intestine", "Dünndarm", "Duenndarm"),
                *("Dunne darm", "Grele", "Intestin grele", "Intestino tenue", "Intestino delgado"),
            ),
        ),
    ),
    target_levels=(TargetLevel(name="PTV", relative_dose=1.0),),
    # All of them: bladder and femoral heads are in every study of a prostate, too
    minimum_organs=4,
    gantry_deg=tuple(float(angle) for angle in range(0, 360, 10)),
)

GRID = NetworkGrid(rows=256, columns=256, pixel_spacing_mm=2.0, slice_spacing_mm=3.0)
"""512 mm × 512 mm."""

NORMALISATION = Normalisation(
    ct_low_hu=-1000.0, ct_high_hu=1500.0, distance_limit_mm=100.0, dose_scale=2.0, dose_offset=1.0
)

_NEIGHBOURS_MM = (-12.0, -6.0, 6.0, 12.0)
_WITH_NEIGHBOURS = (Channel(kind="ct"), Channel(kind="external"), Channel(kind="target", name="PTV"))

CHANNELS = (
    *_WITH_NEIGHBOURS,
    Channel(kind="target-distance"),
    *(Channel(kind="organ", name=organ.name) for organ in SITE.organs),
    Channel(kind="open-fields", name="PTV"),
    *(c.model_copy(update={"offset_mm": offset}) for offset in _NEIGHBOURS_MM for c in _WITH_NEIGHBOURS),
)
"""An arc comes from everywhere: what sectors of it give would tell little more than what all of it does."""
