"""The head-and-neck site of OpenKBP: seven organs, three target levels, nine coplanar fields."""

from model.checkpoint.manifest import Channel, NetworkGrid, Normalisation
from model.conditioning.site import Site, SiteOrgan, TargetLevel

_PAROTID = (
    *("Parotid", "Parotid Gland", "Parotid Gl", "Parotid Glnd", "Glnd Parotid", "Gl Parotid", "Gland Parotid"),
    *("Parotis", "Parotide", "Parotida", "Gl Parotis", "Gl Parotidea", "Glandula Parotis", "Glandula Parotidea"),
    *("Ohrspeicheldrüse", "Ohrspeicheldruese"),
)

SITE = Site(
    name="head and neck",
    organs=(
        SiteOrgan(
            name="Brainstem",
            synonyms=(
                *("Brain Stem", "Hirnstamm", "Stammhirn", "Hersenstam", "Tronc cerebral", "Tronco cerebral"),
                *("Tronco encefalico", "Troncoencefalo"),
            ),
        ),
        SiteOrgan(
            name="SpinalCord",
            synonyms=(
                *("Spinal Cord", "Spine Cord", "SpinCord", "Cord", "Spinal_Canal", "Myelon", "Myelum", "Rückenmark"),
                *("Rueckenmark", "Spinalkanal", "Ruggenmerg", "Moelle", "Moelle epiniere", "Canal medullaire"),
                *("Midollo", "Midollo spinale", "Medula", "Medula espinal"),
            ),
        ),
        SiteOrgan(name="Parotid_R", synonyms=(*(f"{name} right" for name in _PAROTID), "Parotide D", "Parotida D")),
        SiteOrgan(name="Parotid_L", synonyms=(*(f"{name} left" for name in _PAROTID), "Parotide G", "Parotida I")),
        SiteOrgan(
            name="Esophagus",
            synonyms=(
                *("Oesophagus", "Ösophagus", "Esofagus", "Esofago", "Œsophage", "Esophage", "Speiseröhre"),
                *("Speiseroehre", "Slokdarm", "Eso", "Esophagus_S", "Esophagus upper", "Cervical Esophagus"),
                *("Esophagus cervical", "Oesophagus cervical", "Cervical Oesophagus"),
            ),
        ),
        SiteOrgan(name="Larynx", synonyms=("LarynxGSL", "Kehlkopf", "Laringe", "Strottenhoofd")),
        SiteOrgan(
            name="Bone_Mandible",
            synonyms=(
                *("Mandible", "Mandible bone", "Mandibula", "Mandibule", "Mandibola", "Unterkiefer", "Onderkaak"),
                *("Jaw", "Lower jaw", "Jaw bone"),
            ),
        ),
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
