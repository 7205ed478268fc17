"""A simulated head-and-neck patient: anatomy from smooth shapes in millimetres, drawn with one seed.

Sizes and positions follow what is usual for adults treated supine with a bilateral neck; texture and the finer anatomy
do not matter for dose and are left out. In this module x runs to the patient's left, y to posterior and z to the head,
with the origin between the angles of the mandible.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from model.case import EXTERNAL, Beam, Case, Prescription, Structure, VoxelGrid
from model.cohort.space import Field, Mask, Space

FRACTIONS = 35
PRESCRIBED_GY = {"PTV_7000": 70.0, "PTV_6300": 63.0, "PTV_5600": 56.0}
GANTRY_DEG = tuple(range(0, 360, 40))

# Tissues, in Hounsfield units
AIR_HU = -1000.0
LUNG_HU = -780.0
FAT_HU = -100.0
LOOSE_TISSUE_HU = -30.0
GLAND_HU = -15.0
CORD_HU = 25.0
BRAIN_HU = 30.0
MUSCLE_HU = 50.0
TUMOUR_HU = 60.0
VESSEL_HU = 140.0
CARTILAGE_HU = 150.0
SPONGY_BONE_HU = 450.0
JAW_HU = 800.0
DENSE_BONE_HU = 1200.0
NOISE_HU = 12.0
"""Standard deviation from voxel to voxel."""
TEXTURE_HU = 10.0
"""Standard deviation over distances of a centimetre."""

BLUR_MM = 2.2
"""Standard deviation of the scanner's point spread."""

SKIN_MM = 4.0
"""Targets keep this distance from the skin, as planners crop them out of the build-up region."""

VERTEBRA_MM = 17.0
"""Distance from one vertebra to the next."""


@dataclass(frozen=True)
class _Habitus:
    """How one patient differs from the average; lengths in mm."""

    width: float
    """Factor on all transverse lengths."""
    length: float
    """Factor on all lengths along the body."""
    bend: tuple[float, float, float, float]
    """Phases of the slow waves that make the anatomy uneven."""
    shoulders: float
    """How far the shoulders lie above their average."""
    fat: float
    """Factor on the thickness of subcutaneous fat."""
    gland: float
    """Factor on the size of the parotids."""
    side: int
    """+1 if the disease is on the left, -1 on the right."""
    tumour_centre: tuple[float, float, float]
    tumour_radii: tuple[float, float, float]
    node_z: float
    """Level of the involved lymph node."""

    @classmethod
    def draw(cls, random: np.random.Generator) -> "_Habitus":
        side = 1 if random.random() < 0.5 else -1
        bend = random.uniform(0, 2 * np.pi, 4)
        centre = random.uniform((8, -46, -25), (20, -38, 20))
        radii = random.uniform((28, 24, 30), (40, 32, 50))
        return cls(
            width=random.uniform(0.94, 1.07),
            length=random.uniform(0.95, 1.05),
            bend=(bend[0], bend[1], bend[2], bend[3]),
            shoulders=random.uniform(-12, 12),
            fat=random.uniform(0.6, 1.6),
            gland=random.uniform(0.85, 1.2),
            side=side,
            tumour_centre=(side * centre[0], centre[1], centre[2]),
            tumour_radii=(radii[0], radii[1], radii[2]),
            node_z=random.uniform(-45, 0),
        )


def _space(grid: VoxelGrid, habitus: _Habitus) -> Space:
    """Undo what makes this patient differ from the average."""
    stretch = (habitus.width, habitus.width, habitus.length)
    x, y, z = (
        np.asarray(grid.origin_mm[axis] + grid.spacing_mm[2 - axis] * np.arange(grid.shape[2 - axis])) / stretch[axis]
        for axis in range(3)
    )
    y, z = y[:, None], z[:, None, None]
    a, b, c, d = habitus.bend
    bent_x = x + 2.0 * np.sin(y / 30 + a) + 2.5 * np.sin(z / 40 + b)
    bent_y = y + 1.5 * np.sin(x / 25 + c) + 2.5 * np.sin(z / 45 + d)
    return Space(bent_x, bent_y, np.asarray(z, np.float64))


def simulated_neck(
    seed: int,
    *,
    shape: tuple[int, int, int] = (76, 128, 128),
    spacing_mm: tuple[float, float, float] = (3.0, 3.9, 3.9),
) -> Case:
    """Return a simulated patient with a bilateral head-and-neck cancer, ready to be planned; it has no dose.

    Parameters
    ----------
    seed
        Determines the patient.
    shape
        Slices, rows and columns of the CT.
    spacing_mm
        Along slices, rows and columns. The CT is centred on the neck; where it covers less than about 220 × 250 ×
        450 mm the patient is cut off, and a structure of which no voxel is left is missing from the case.

    Raises
    ------
    ValueError
        If the CT misses every target.
    """
    random = np.random.default_rng(seed)
    habitus = _Habitus.draw(random)
    extent = [(n - 1) * step for n, step in zip(shape, spacing_mm, strict=True)]
    # The scan reaches from the base of the brain to the upper chest
    grid = VoxelGrid(shape, spacing_mm, (-extent[2] / 2, -extent[1] / 2, -extent[0] / 2 - 20.0))
    space = _space(grid, habitus)

    body = _body(space, habitus)
    # Beyond its first and last slice the patient goes on, so no depth is counted from there
    depth_mm = distance_transform_edt(np.pad(body, ((0, 0), (1, 1), (1, 1))), spacing_mm)[:, 1:-1, 1:-1]
    organs = _organs(space, habitus)
    organs = {name: mask & body for name, mask in organs.items()}
    targets = _targets(space, habitus, depth_mm > SKIN_MM)

    hu = _tissue(space, habitus, depth_mm, organs)
    hu[_tumour(space, habitus) & (hu > FAT_HU)] = TUMOUR_HU
    hu[_airway(space)] = AIR_HU
    hu = gaussian_filter(hu, [BLUR_MM / step for step in spacing_mm])
    hu += NOISE_HU * random.standard_normal(shape)
    texture = gaussian_filter(random.standard_normal(shape), [5.0 / step for step in spacing_mm])
    hu += body * (TEXTURE_HU / texture.std()) * texture

    structures = {name: Structure(name, mask, "oar") for name, mask in organs.items() if mask.any()}
    structures |= {name: Structure(name, mask, "target") for name, mask in targets.items() if mask.any()}
    structures[EXTERNAL] = Structure(EXTERNAL, body, "external")
    prescription = Prescription(
        {name: dose_gy for name, dose_gy in PRESCRIBED_GY.items() if name in structures}, FRACTIONS, "data-set"
    )
    centroid = grid.points_mm(np.argwhere(np.logical_or.reduce(list(targets.values()))).mean(axis=0))
    # Treatment couches are set to a tenth of a millimetre
    isocentre = (round(float(centroid[0]), 1), round(float(centroid[1]), 1), round(float(centroid[2]), 1))
    return Case(
        hu=np.clip(np.rint(hu), -1024, 3071).astype(np.int16),
        grid=grid,
        structures=structures,
        prescription=prescription,
        beams=tuple(Beam((float(angle),), isocentre) for angle in GANTRY_DEG),
        identifier=f"simulated-neck-{seed}",
    )


def _body(space: Space, habitus: _Habitus) -> Mask:
    """Head, face, neck and shoulders."""
    half_width = space.along((-90, 80), (-60, 66), (-30, 62), (0, 67), (25, 74), (50, 77), (110, 75))
    front = space.along((-80, -50), (-62, -56), (-45, -86), (-30, -114), (0, -118), (60, -118), (110, -110))
    back = space.along((-80, 84), (-60, 68), (-40, 52), (0, 48), (25, 62), (50, 74), (80, 82), (110, 80))
    centre_y, half_depth = (front + back) / 2, (back - front) / 2
    # Face and jaw narrow to the front
    narrowing = 1 - space.along((-90, 0), (-40, 0.45), (0, 0.3), (60, 0.2)) * np.clip(
        (centre_y - space.y) / half_depth, 0, 1
    )
    head = space.tube((0, centre_y), (half_width * narrowing, half_depth), 3)
    nose = space.rod([(0, -118, 42), (0, -110, 70)], 12)

    up = habitus.shoulders
    shoulder_width = space.along((-180, 228), (-135 + up, 218), (-110 + up, 205), (-90 + up, 180), (-62 + up, 70))
    shoulder_depth = space.along((-180, 98), (-135 + up, 90), (-110 + up, 78), (-90 + up, 60), (-62 + up, 30))
    shoulder_y = space.along((-180, 26), (-110 + up, 33), (-62 + up, 42))
    shoulders = space.tube((0, shoulder_y), (shoulder_width, shoulder_depth), 3) & space.between(-np.inf, -62 + up)
    return head | nose | shoulders


def _cord_y(space: Space) -> Field:
    return space.along(
        (-170, 64),
        (-135, 47),
        (-115, 38),
        (-97, 29),
        (-79, 21),
        (-61, 17),
        (-43, 12),
        (-25, 8),
        (-7, 4),
        (11, 2),
        (47, 3),
    )


def _airway_y(space: Space) -> Field:
    return space.along(
        (-170, 14), (-130, -2), (-97, -18), (-75, -29), (-55, -31), (-30, -25), (0, -27), (28, -32), (48, -40)
    )


def _airway(space: Space) -> Mask:
    """Nasopharynx down to trachea, and the cavities of the face."""
    half_width = space.along((-75, 8), (-62, 4), (-48, 5), (-30, 12), (0, 10), (28, 12), (48, 14))
    half_depth = space.along((-75, 8), (-50, 9), (-30, 5), (0, 5), (28, 7), (48, 11))
    throat = space.tube((0, _airway_y(space)), (half_width, half_depth)) & space.between(-np.inf, 48)
    nose = space.tube((0, -78), (9, 32)) & space.between(36, 62)
    septum = np.abs(space.x) < 2
    sinuses = space.ellipsoid((29, -76, 46), (13, 16, 15)) | space.ellipsoid((-29, -76, 46), (13, 16, 15))
    return throat | (nose & ~septum) | sinuses


def _organs(space: Space, habitus: _Habitus) -> dict[str, Mask]:
    """Organs at risk by TG-263 name."""
    cord_y = _cord_y(space)
    brainstem_y = space.along((32, 3), (50, 0), (68, -5), (92, -8))
    brainstem_width = space.along((32, 7), (50, 9), (68, 14), (92, 15))
    brainstem_depth = space.along((32, 6), (50, 8), (68, 12), (92, 13))
    parotid = (12 * habitus.gland, 18 * habitus.gland, 25 * habitus.gland)
    mandible = _mandible(space)
    larynx_width = space.along((-75, 13), (-42, 18))
    return {
        "Brainstem": space.tube((0, brainstem_y), (brainstem_width, brainstem_depth)) & space.between(32, 92),
        "SpinalCord": space.tube((0, cord_y), (7, 5.5)) & space.between(-np.inf, 32),
        "Parotid_R": space.ellipsoid((-57, -22, 20), parotid) & ~mandible,
        "Parotid_L": space.ellipsoid((57, -22, 20), parotid) & ~mandible,
        "Esophagus": space.tube((2, _airway_y(space) + 16), (9, 6)) & space.between(-np.inf, -78),
        "Larynx": space.tube((0, -33), (larynx_width, 16)) & space.between(-76, -42),
        "Bone_Mandible": mandible,
    }


def _arch(space: Space, thickness: float) -> tuple[Mask, Field]:
    """Horseshoe of the jaws in the transverse plane, and how far in front of its ends every voxel lies, 0 to 1."""
    forward = np.clip((-45 - space.y) / 65, 0, 1)
    radius = np.hypot(space.x / 46, (space.y + 45) / 60)
    arch: Mask = (np.abs(radius - 1) < thickness / 110) & (space.y < -45)
    return arch, forward


def _mandible(space: Space) -> Mask:
    arch, forward = _arch(space, 10)
    body = arch & space.between(-20 - 15 * forward, 3 - 16 * forward)
    ramus_x = space.along((-20, 45), (55, 55))
    ramus = (np.abs(np.abs(space.x) - ramus_x) < 4.5) & (np.abs(space.y + 47) < 14) & space.between(-20, 55)
    return body | ramus


def _spine(space: Space) -> tuple[Mask, Mask]:
    """Vertebrae: spongy bodies and dense arches."""
    cord_y = _cord_y(space)
    present = space.between(-np.inf, 46)
    within = np.mod(space.z, VERTEBRA_MM)
    vertebra = within > 4
    body = space.tube((0, cord_y - 18), (14, 10)) & present & vertebra
    ring = space.tube((0, cord_y - 1), (17, 13)) & ~space.tube((0, cord_y), (11, 8.5))
    spinous = (np.abs(space.x) < 4) & (np.abs(space.y - cord_y - 22) < 11)
    transverse = (np.abs(space.x) < 27) & (np.abs(space.x) > 11) & (np.abs(space.y - cord_y + 8) < 5)
    return body, (ring | (spinous & (within > 8)) | (transverse & (within > 7))) & present & vertebra


def _skull(space: Space) -> tuple[Mask, Mask]:
    """Cavity of the brain and the bone around it."""
    floor = 46 + 0.3 * np.clip(-space.y, 0, 80)
    cavity = space.ellipsoid((0, -15, 95), (64, 82, 90)) & (space.z > floor)
    shell = space.ellipsoid((0, -15, 95), (70, 89, 97)) & (space.z > floor - 5)
    return cavity, shell & ~cavity


def _tissue(space: Space, habitus: _Habitus, depth_mm: Field, organs: dict[str, Mask]) -> Field:
    """Hounsfield units before blur and noise; later layers cover earlier ones."""
    fat_mm = habitus.fat * space.along((-130, 12), (-80, 9), (-20, 6), (40, 5), (80, 3))
    cavity, skull = _skull(space)
    spongy, dense = _spine(space)
    arch, forward = _arch(space, 9)
    up = habitus.shoulders
    layers: list[tuple[Mask, float]] = [(depth_mm > fat_mm, MUSCLE_HU)]
    for side in (-1, 1):
        sheath = space.tube((side * 38, _cord_y(space) - 24), (12, 15)) & space.between(-100, 30)
        layers += [
            (sheath, LOOSE_TISSUE_HU),
            (space.tube((side * 31, _cord_y(space) - 26), (4.5, 4.5)) & space.between(-115, 40), VESSEL_HU),
            (space.tube((side * 39, _cord_y(space) - 24), (5.5, 5.5)) & space.between(-115, 40), VESSEL_HU),
            (space.ellipsoid((side * 62, 38, -185), (48, 62, 95)) & (depth_mm > 25), LUNG_HU),
            (
                space.rod([(side * 22, -38, up - 104), (side * 80, -20, up - 98), (side * 150, 25, up - 96)], 7),
                DENSE_BONE_HU,
            ),
            (
                space.rod([(side * 65, 92, up - 150), (side * 120, 72, up - 118), (side * 160, 50, up - 110)], 8),
                DENSE_BONE_HU,
            ),
            (space.ellipsoid((side * 176, 38, up - 118), (25, 25, 25)), DENSE_BONE_HU),
            (space.ellipsoid((side * 176, 38, up - 118), (20, 20, 20)), SPONGY_BONE_HU),
            (space.ellipsoid((side * 31, -93, 70), (13, 12, 12)), CORD_HU),
        ]
    layers += [
        (skull & (depth_mm > 4), DENSE_BONE_HU),
        (cavity, BRAIN_HU),
        (organs["Parotid_L"] | organs["Parotid_R"], GLAND_HU),
        (organs["Larynx"] & ~space.tube((0, -33), (12, 11)), CARTILAGE_HU),
        (arch & space.between(5 - 16 * forward, 28 - 6 * forward) & (forward > 0.1), DENSE_BONE_HU),
        (organs["Bone_Mandible"], JAW_HU),
        (spongy, SPONGY_BONE_HU),
        (dense, DENSE_BONE_HU),
        (organs["SpinalCord"] | organs["Brainstem"], CORD_HU),
        (depth_mm == 0, AIR_HU),
    ]
    hu = np.full(depth_mm.shape, FAT_HU)
    for mask, value in layers:
        hu[mask] = value
    return hu


def _tumour(space: Space, habitus: _Habitus, margin_mm: float = -10.0) -> Mask:
    """Primary tumour, by default without the margins that make it a planning target."""
    rx, ry, rz = habitus.tumour_radii
    return space.ellipsoid(habitus.tumour_centre, (rx + margin_mm, ry + margin_mm, rz + margin_mm))


def _targets(space: Space, habitus: _Habitus, allowed: Mask) -> dict[str, Mask]:
    """Planning targets, one for each prescribed dose; where they meet the higher one holds."""
    spongy, dense = _spine(space)
    allowed = allowed & ~spongy & ~dense & ~space.tube((0, _cord_y(space)), (12, 10))
    chains = {side: _nodes(space, side) for side in (-1, 1)}
    involved = space.ellipsoid((habitus.side * 42, -12, habitus.node_z), (16, 20, 28))
    high = (_tumour(space, habitus, 0.0) | involved) & allowed
    upper_neck = chains[habitus.side] & space.between(habitus.node_z - 35, habitus.node_z + 35)
    middle = (_tumour(space, habitus, 9.0) | upper_neck) & allowed & ~high
    low = (chains[-1] | chains[1]) & allowed & ~high & ~middle
    return {"PTV_7000": high, "PTV_6300": middle, "PTV_5600": low}


def _nodes(space: Space, side: int) -> Mask:
    """Lymph nodes of one side of the neck: a band from beside the throat back to under the trapezius."""
    centre_x = space.along((-105, 42), (-80, 45), (-20, 43), (30, 46))
    centre_y = space.along((-105, -18), (-80, -6), (-50, -4), (-7, -16), (30, -16))
    half_length = space.along((-105, 18), (-80, 30), (-50, 40), (0, 42), (30, 24))
    x, y = side * space.x - centre_x, space.y - centre_y
    cos, sin = np.cos(np.deg2rad(63)), np.sin(np.deg2rad(63))
    band = ((x * cos + y * sin) / half_length) ** 2 + ((y * cos - x * sin) / 11) ** 2 < 1
    nodes: Mask = band & space.between(-108, 34)
    return nodes
