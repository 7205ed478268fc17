"""The head-and-neck site of OpenKBP: seven organs, three target levels, nine coplanar fields."""

from model.checkpoint.manifest import Channel, NetworkGrid, Normalisation
from model.conditioning.site import Site, SiteOrgan, TargetLevel

SITE = Site(
    name="head and neck",
    organs=(
        SiteOrgan(name="Brainstem", synonyms=("Brain Stem", "BrainStem_Core", "Hirnstamm", "BS")),
        SiteOrgan(name="SpinalCord", synonyms=("Spinal Cord", "Cord", "Myelon", "Spinal_Canal", "SC")),
        SiteOrgan(
            name="Parotid_R", synonyms=("RightParotid", "Parotid Gland Right", "RParotid", "ParotidR", "Glnd_Parotid_R")
        ),
        SiteOrgan(
            name="Parotid_L", synonyms=("LeftParotid", "Parotid Gland Left", "LParotid", "ParotidL", "Glnd_Parotid_L")
        ),
        SiteOrgan(name="Esophagus", synonyms=("Oesophagus", "Eso", "Esophagus_S", "Cervical Esophagus")),
        SiteOrgan(name="Larynx", synonyms=("Larynx_SG", "Larynx Glottis", "LarynxGSL")),
        SiteOrgan(name="Bone_Mandible", synonyms=("Mandible", "Mandibula", "Jaw")),
    ),
    target_levels=(
        TargetLevel(name="PTV_High", relative_dose=1.0),
        TargetLevel(name="PTV_Mid", relative_dose=0.9),
        TargetLevel(name="PTV_Low", relative_dose=0.8),
    ),
    minimum_organs=3,
    gantry_deg=(0.0, 40.0, 80.0, 120.0, 160.0, 200.0, 240.0, 280.0, 320.0),
)

GRID = NetworkGrid(rows=96, columns=128, pixel_spacing_mm=3.90625, slice_spacing_mm=2.5)
"""375 mm × 500 mm; 3.90625 mm = 500 mm / 128 is what most of OpenKBP's dose grids have."""

NORMALISATION = Normalisation(
    ct_low_hu=-1000.0, ct_high_hu=1500.0, distance_limit_mm=100.0, dose_scale=2.0, dose_offset=1.0
)

_NEIGHBOURS_MM = (-10.0, -5.0, 5.0, 10.0)
_WITH_NEIGHBOURS = (
    Channel(kind="ct"),
    Channel(kind="external"),
    *(Channel(kind="target", name=level.name) for level in SITE.target_levels),
)

CHANNELS = (
    *_WITH_NEIGHBOURS,
    Channel(kind="target-distance"),
    *(Channel(kind="organ", name=organ.name) for organ in SITE.organs),
    *(Channel(kind="open-fields", name=level.name) for level in SITE.target_levels),
    *(Channel(kind="open-field-sector", name=f"{angle:g}") for angle in SITE.gantry_deg),
    *(c.model_copy(update={"offset_mm": offset}) for offset in _NEIGHBOURS_MM for c in _WITH_NEIGHBOURS),
)
