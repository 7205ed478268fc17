"""Parts of the pelvis as shapes: walls, skeleton, organs, targets, and what a CT shows of them.

Coordinates as in `model.cohort.pelvis`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from model.case.grid import bounding_box
from model.cohort.space import Field, Mask, Point, Space

AIR_HU = -1000.0
GAS_HU = -950.0
FAT_HU = -105.0
MESENTERY_HU = -92.0
SEPTUM_HU = -50.0
MARROW_HU = 10.0
URINE_HU = 6.0
STOOL_HU = 18.0
NERVE_HU = 18.0
FLUID_HU = 22.0
WALL_HU = 42.0
GLAND_HU = 40.0
BLOOD_HU = 45.0
TUMOUR_HU = 50.0
MUSCLE_HU = 56.0
DISC_HU = 85.0
SPONGY_HU = 210.0
CORTEX_HU = 1050.0
CONTRAST_HU = 110.0
"""What intravenous contrast adds to blood."""

PTV_MARGIN_MM = 7.0
WALL_MM = 3.5
"""Of the rectum and the intestine."""

PRESACRAL_MM = 6.0
"""Between the rectum and the sacrum."""

SIDES = (-1, 1)

FLAT = ndimage.generate_binary_structure(2, 1)[None]
"""A voxel and its neighbours in the transverse plane."""

SACRUM_FRONT = (
    (-40, 50), (-20, 61), (0, 70), (25, 75), (50, 67), (75, 48), (100, 24), (118, 12), (126, 4), (190, 2),
)  # fmt: skip
"""(z, y) of the front of coccyx, sacrum and lumbar spine."""

COLON = ((-84, -30, 84), (-98, -6, 112), (-104, 12, 150), (-106, 16, 200))
COLON_MM = (16, 25, 23, 22)
"""Line of caecum and ascending colon, and its radii."""


@dataclass(frozen=True)
class Habitus:
    """How one patient differs from the average; lengths in mm, angles in degrees."""

    female: bool
    frame: float
    """Factor on the skeleton's transverse lengths."""
    length: float
    """Factor on all lengths along the body."""
    tilt: Point
    """Turns of the pelvis about the x, y and z axes."""
    shift: tuple[float, float]
    """Of the body from the middle of the scan, x and y."""
    fat: float
    """Subcutaneous fat at the side of the hips."""
    belly: float
    """How far the abdomen stands out in front of its average."""
    bladder_cc: float
    sway: tuple[float, float, float, float]
    """Where the rectum swerves to the sides: x at four levels."""
    lumen: Point
    """Factors on the rectum's width in its lower, middle and upper part."""
    gas: Point
    """Radii of gas bubbles in the rectum; below 3 there is none."""
    tumour_z: float
    tumour_length: float
    tumour_angle: float
    node_top: float
    """Level to which nodes are treated: where the common iliac vessels divide."""
    enhanced: bool
    """Whether the CT was taken with intravenous contrast."""
    opaque: float
    """HU that drunk contrast adds to the small intestine."""
    loops: int
    """Number of loops of small intestine in the pelvis and lower abdomen."""
    deepest_loop: float
    """Level down to which loops hang into the pelvis."""
    noise_hu: float

    @classmethod
    def draw(cls, random: np.random.Generator) -> "Habitus":
        """Draw a patient."""
        uniform = random.uniform
        female = bool(random.random() < 0.4)
        return cls(
            female=female,
            frame=uniform(0.94, 1.06),
            length=uniform(0.94, 1.06),
            tilt=(uniform(-7, 7), uniform(-1.5, 1.5), uniform(-3, 3)),
            shift=(uniform(-8, 8), uniform(-8, 8)),
            fat=float(np.clip(random.normal(30 if female else 22, 9), 8, 48)),
            belly=uniform(-15, 30),
            bladder_cc=float(np.clip(random.lognormal(np.log(190), 0.45), 70, 450)),
            sway=(uniform(-4, 4), uniform(-9, 9), uniform(-12, 12), uniform(-8, 16)),
            lumen=(uniform(0.85, 1.2), uniform(0.8, 1.35), uniform(0.8, 1.2)),
            gas=(uniform(-6, 11), uniform(-6, 14), uniform(-6, 10)),
            tumour_z=uniform(-35, 60),
            tumour_length=uniform(30, 65),
            tumour_angle=uniform(0, 360),
            node_top=uniform(98, 116),
            enhanced=bool(random.random() < 0.5),
            opaque=uniform(120, 260) if random.random() < 0.4 else 0.0,
            loops=int(random.integers(16, 30)),
            deepest_loop=uniform(15, 60),
            noise_hu=uniform(8, 14),
        )


class Anatomy:
    """A patient's parts as masks.

    Parameters
    ----------
    space
        The patient's.
    habitus
        The patient's.
    ripple
        (slices, rows, columns) smooth field of about ±1, over centimetres.
    spacing_mm
        Of the voxels, along slices, rows and columns.
    random
        Draws what is not in the habitus: the loops of intestine.
    """

    def __init__(
        self, space: Space, habitus: Habitus, ripple: Field, spacing_mm: Point, random: np.random.Generator
    ) -> None:
        self._space, self._habitus, self._ripple = space, habitus, ripple
        self._spacing_mm, self._random = spacing_mm, random
        self._sacrum_y = space.along(*SACRUM_FRONT)
        self.body, self._inner, self._cavity = self._walls()
        self._bones, self._discs, self._canal = self._skeleton()
        self._path, self._radii = self._rectal_path()
        self._rectum = space.rod(self._path, self._radii)
        self._tumour = self._tumour_mask()
        self._vessels = self._vessel_mask()
        self._bladder = self._bladder_mask()
        self._genitals = self._genital_mask()
        self._colon = space.rod(COLON, COLON_MM) & ~self._bones
        self._loops: Mask = np.zeros_like(self.body)
        self._contents: Mask = np.zeros_like(self.body)
        self._bubbles: Mask = np.zeros_like(self.body)
        self._draw_loops()

    def organs(self) -> dict[str, Mask]:
        """Organs at risk by TG-263 name."""
        heads = {side: self._femur(side, through_mm=18.0) for side in SIDES}
        return {
            "Bladder": self._bladder,
            "Femur_Head_R": heads[-1],
            "Femur_Head_L": heads[1],
            "Bowel_Small": self._loops,
        }

    def target(self) -> Mask:
        """Planning target: mesorectum, presacral space and lateral nodes, with margin."""
        space, habitus = self._space, self._habitus
        lowest = float(np.interp(habitus.tumour_z, [-35, -8, 15, 60], [-62, -50, -34, -24]))
        top = habitus.node_top
        clinical = self._mesorectum & space.between(max(lowest, -36), top)
        canal = space.rod(self._path[:3], [radius + 5 for radius in self._radii[:3]])
        clinical |= canal & space.between(lowest, -24)
        clinical |= space.rod([(0, 50, -34), (0, 48, lowest)], 10) & space.between(lowest, -24)
        clinical |= space.band(
            (space.along((0, -22), (60, -30), (110, -24)), self._sacrum_y - 5),
            (space.along((0, 22), (60, 30), (110, 24)), self._sacrum_y - 5),
            7,
        ) & space.between(8, top)
        for side in SIDES:
            clinical |= self._nodes(side) & space.between(-16, top)
        clinical |= self._tumour
        clinical &= ~self._bones | self._mesorectum

        step = self._spacing_mm
        margin = [int(np.ceil(2 * PTV_MARGIN_MM / s)) for s in step]
        window = tuple(
            slice(max(s.start - m, 0), s.stop + m) for s, m in zip(bounding_box(clinical), margin, strict=True)
        )
        distance = ndimage.distance_transform_edt(~clinical[window], step).astype(np.float32)
        distance -= ndimage.distance_transform_edt(clinical[window], step).astype(np.float32)
        target = np.zeros_like(clinical)
        target[window] = ndimage.gaussian_filter(distance, [3.0 / s for s in step]) < PTV_MARGIN_MM
        return target

    def hounsfield(self) -> Field:
        """Hounsfield units as an ideal scanner without noise would show them; later layers cover earlier ones."""
        space, habitus = self._space, self._habitus
        blood = BLOOD_HU + (CONTRAST_HU if habitus.enhanced else 0.0)
        hu = np.full(self.body.shape, AIR_HU, np.float32)
        self._paint(hu, [(self.body, FAT_HU), (self._inner, MUSCLE_HU)])
        septa = self._inner & (np.abs(self._ripple) < 0.05) & space.between(-np.inf, 100)
        self._paint(hu, [(septa, SEPTUM_HU), (self._cavity, MESENTERY_HU)])
        for side in SIDES:
            self._paint(hu, self._side_tissue(side))
        lumen = space.rod(self._path, [max(radius - WALL_MM, 2.0) for radius in self._radii])
        self._paint(
            hu,
            [
                (self._levator(), MUSCLE_HU),
                (self._vessels, blood),
                (self._genitals, GLAND_HU + (25.0 if habitus.enhanced else 0.0)),
                (self._colon, WALL_HU),
                (ndimage.binary_erosion(self._colon, FLAT, iterations=2), STOOL_HU - 30 * np.abs(self._ripple)),
                (space.ellipsoid((-100, -4, 128), (12, 9, 24)) & self._colon, GAS_HU),
                (self._loops, WALL_HU + (20.0 if habitus.enhanced else 0.0)),
                (self._contents, FLUID_HU + habitus.opaque),
                (self._bubbles, GAS_HU),
                (self._rectum, WALL_HU),
                (lumen, STOOL_HU),
                (self._rectal_gas() & lumen, GAS_HU),
                (self._tumour, TUMOUR_HU),
                (self._bladder, WALL_HU),
                (ndimage.binary_erosion(self._bladder, iterations=2), URINE_HU),
                (self._discs, DISC_HU),
                (self._bones, CORTEX_HU),
                (ndimage.binary_erosion(self._bones), SPONGY_HU),
                (self._canal, NERVE_HU),
                *((space.rod(self._shaft(side), 8.0), MARROW_HU) for side in SIDES),
                (~self.body, AIR_HU),
            ],
        )
        return hu

    @staticmethod
    def _paint(hu: Field, layers: Iterable[tuple[Mask, Field | float]]) -> None:
        for mask, value in layers:
            np.copyto(hu, value, where=mask, casting="same_kind")

    def _oval(self, half_width: Field, front: Field, back: Field, power: float) -> Mask:
        """Superellipse in the transverse plane about (0, 10), with a front and a back of their own."""
        y = self._space.y - 10
        depth = np.where(y < 0, 10 - front, back - 10)
        mask: Mask = np.abs(self._space.x / half_width) ** power + np.abs(y / depth) ** power < 1
        return mask

    def _walls(self) -> tuple[Mask, Mask, Mask]:
        """Body, what lies within its subcutaneous fat, and the cavity of abdomen and pelvis."""
        space, habitus = self._space, self._habitus
        along = space.along
        belly = habitus.belly * along((-20, 0), (110, 1))
        width = along((-110, 150), (-60, 158), (-20, 160), (30, 152), (80, 142), (130, 136), (185, 134))
        front = along((-110, -70), (-50, -78), (0, -82), (60, -88), (120, -92), (185, -92)) - belly
        back = along((-110, 92), (-60, 100), (0, 100), (40, 96), (100, 90), (185, 84))
        fat = habitus.fat + 1.5 * self._ripple
        skin_y = back + fat * along((-60, 1.0), (40, 0.9), (120, 0.5), (185, 0.4))
        body = self._oval(width + fat, front - fat * along((-60, 0.5), (20, 0.9), (185, 1.0)), skin_y, 2.3)
        cleft = along((-115, 70), (-40, 48), (10, 26), (48, 0))
        body &= ~((np.abs(space.x) < 0.28 * (space.y - (skin_y - cleft))) & (cleft > 0))
        body &= np.abs(space.x) >= along((-125, 20), (-84, 0))
        inner = self._oval(width, front, back, 2.4) & body
        half = along((-48, 18), (-30, 40), (-5, 52), (40, 56), (62, 78), (85, 104), (115, 114), (185, 118))
        cavity_front = np.maximum(along((-48, 0), (-30, -40), (-10, -58), (12, -90)), front + 12)
        cavity_back = along((-48, 50), (-20, 61), (0, 70), (25, 75), (50, 67), (75, 52), (100, 44), (185, 46))
        cavity = self._oval(half, np.minimum(cavity_front, 0), cavity_back, 2.6) & inner
        return body, inner, cavity & space.between(-48, np.inf)

    def _skeleton(self) -> tuple[Mask, Mask, Mask]:
        """Bones, discs, and the canal of the spine with the holes of the sacrum."""
        space, along = self._space, self._space.along
        centre_y = along((-25, 66), (0, 76), (25, 85), (50, 80), (75, 67), (100, 48), (120, 36), (126, 26), (190, 22))
        depth = centre_y - self._sacrum_y
        width = along((-25, 6), (0, 10), (25, 24), (50, 36), (75, 48), (100, 54), (119, 50), (121, 27), (190, 26))
        column = space.tube((0, centre_y), (width, np.maximum(depth, 4)), 2.4) & space.between(-22, 190)
        within = np.mod(space.z - 118, 34)
        disc = column & (within < 7) & space.between(117, 190)
        canal = space.tube((0, centre_y + depth + 7), (11, 7)) & space.between(60, 190)
        arch = space.tube((0, centre_y + depth + 8), (19, 14)) & space.between(60, 190)
        spine = space.band((0 * space.z, centre_y + depth + 18), (0 * space.z, centre_y + depth + 34), 4)
        spine &= space.between(60, 190) & (within > 10)
        transverse = space.band((-42 + 0 * space.z, centre_y + 20), (42 + 0 * space.z, centre_y + 20), 5)
        transverse &= (within > 14) & (within < 26) & space.between(125, 190)
        bones = (column & ~disc) | arch | spine | transverse
        for side in SIDES:
            hole = space.rod([(side * 21, 44, 92), (side * 19, 66, 66), (side * 15, 80, 42)], 5)
            canal |= hole & bones & ~space.between(118, 190)
            bones |= self._hip(side) | self._femur(side, through_mm=None)
        return bones & ~canal & self._inner, disc, canal & self._inner

    def _hip(self, side: int) -> Mask:
        """Ilium, acetabulum, ischium and pubis of one side."""
        space, along = self._space, self._space.along
        wing = space.band(
            (
                side * along((12, 72), (40, 64), (70, 58), (100, 59), (130, 66), (150, 84)),
                along((12, 26), (40, 44), (70, 62), (100, 68), (130, 60), (150, 46)),
            ),
            (
                side * along((12, 98), (40, 106), (70, 118), (100, 126), (130, 130), (150, 122)),
                along((12, -20), (40, -26), (70, -38), (100, -34), (130, -4), (150, 16)),
            ),
            along((12, 13), (40, 9), (70, 7), (100, 6), (140, 6.5), (150, 5)),
        ) & space.between(14, 152)
        cup = space.ellipsoid((side * 87, 2, 2), (35, 36, 36)) & ~space.ellipsoid((side * 88, 0, 0), (27, 27, 27))
        cup &= (side * space.x < 102) & space.between(-26, 40)
        pubis = space.rod([(side * 9, -62, -24), (side * 42, -52, -4), (side * 74, -24, 6)], [11, 8, 11])
        pubis |= space.rod([(side * 10, -60, -30), (side * 30, -30, -58), (side * 52, 10, -74)], [9, 6, 8])
        ischium = space.rod([(side * 54, 18, -72), (side * 66, 34, -40), (side * 76, 28, -8)], [13, 12, 15])
        return (wing | cup | ischium | pubis) & (np.abs(space.x) > 2.5)

    def _shaft(self, side: int) -> list[Point]:
        return [(side * 134, 10, -52), (side * 126, 2, -170)]

    def _femur(self, side: int, *, through_mm: float | None) -> Mask:
        """Head and neck of a femur, the neck only so far from the head's centre, or the whole bone."""
        space = self._space
        head = space.ellipsoid((side * 88, 0, 0), (24, 24, 24))
        neck = [(side * 88.0, 0.0, 0.0), (side * 130.0, 12.0, -30.0)]
        if through_mm is not None:
            share = (24 + through_mm) / float(np.linalg.norm(np.subtract(neck[1], neck[0])))
            end = tuple(a + share * (b - a) for a, b in zip(*neck, strict=True))
            return head | space.rod([neck[0], (end[0], end[1], end[2])], [15, 14])
        trochanter = space.ellipsoid((side * 141, 16, -26), (15, 19, 24))
        shaft = space.rod([(side * 132, 12, -32), *self._shaft(side)], 15)
        return head | space.rod(neck, [15, 14]) | trochanter | shaft

    def _rectal_path(self) -> tuple[list[Point], list[float]]:
        """Line of anal canal, rectum and sigmoid, and its radii."""
        x0, x1, x2, x3 = self._habitus.sway
        low, middle, high = self._habitus.lumen
        radii = [8, 10, 13 * low, 17 * low, 18 * middle, 16 * middle, 15 * high, 14 * high, 13 * high, 13, 12, 12, 12]
        path: list[Point] = [(0, 26, -90), (0, 36, -52), (0.5 * x0, 46, -28)]
        course = [(x0, 0.0), (x1, 25.0), (x2, 50.0), (x3, 75.0), (0.6 * x3 + 8, 94.0)]
        for (x, z), radius in zip(course, radii[3:], strict=False):
            front = float(np.interp(z, *np.array(SACRUM_FRONT).T))
            path.append((x, front - radius - PRESACRAL_MM, z))
        path += [(34, -8, 102), (66, -4, 92), (92, 8, 112), (102, 24, 150), (102, 26, 200)]
        return path, [float(radius) for radius in radii]

    def _rectal_gas(self) -> Mask:
        gas = np.zeros(self.body.shape, np.bool_)
        for index, radius in zip((3, 4, 6), self._habitus.gas, strict=True):
            if radius >= 3:
                x, y, z = self._path[index]
                gas |= self._space.ellipsoid((x, y - 4, z), (radius, radius, 1.6 * radius))
        for x, y, z in self._path[10:12]:
            gas |= self._space.ellipsoid((x, y - 4, z), (8, 6, 14))
        return gas

    @cached_property
    def _centre(self) -> tuple[Field, Field, Field]:
        """x, y and radius of the rectum at every level."""
        path = np.array(self._path[:8])
        profiles = [list(zip(path[:, 2].tolist(), values, strict=True)) for values in (*path[:, :2].T, self._radii[:8])]
        x, y, radius = (self._space.along(*profile) for profile in profiles)
        return x, y, radius

    def _tumour_mask(self) -> Mask:
        habitus = self._habitus
        path = np.array(self._path[:8])
        x, y, radius = (
            float(np.interp(habitus.tumour_z, path[:, 2], values)) for values in (*path[:, :2].T, self._radii[:8])
        )
        angle = np.deg2rad(habitus.tumour_angle)
        centre = (x + 0.6 * radius * np.cos(angle), y + 0.6 * radius * np.sin(angle), habitus.tumour_z)
        wall = self._space.rod(self._path[:8], [r + 3 for r in self._radii[:8]])
        return wall & self._space.ellipsoid(centre, (radius, radius, habitus.tumour_length / 2))

    @cached_property
    def _mesorectum(self) -> Mask:
        x, y, radius = self._centre
        width = self._space.along((-38, 14), (-20, 24), (0, 33), (30, 39), (60, 38), (90, 33), (118, 27))
        front, back = y - radius - self._space.along((-38, 4), (0, 8), (118, 10)), self._sacrum_y - 1
        return self._space.tube((0.3 * x, (front + back) / 2), (width, (back - front) / 2), 2.5)

    def _nodes(self, side: int) -> Mask:
        """Nodes of one side, internal iliac and obturator, along the wall of the pelvis."""
        along = self._space.along
        return self._space.band(
            (
                side * along((-16, 40), (20, 43), (45, 43), (70, 40), (95, 34), (118, 28)),
                along((-16, 24), (20, 32), (45, 38), (70, 36), (95, 20), (118, 10)),
            ),
            (
                side * along((-16, 45), (20, 47), (45, 48), (70, 46), (95, 38), (118, 31)),
                along((-16, -10), (20, -16), (45, -12), (70, 0), (95, 2), (118, -2)),
            ),
            along((-16, 6), (20, 8), (95, 8), (118, 9)),
        )

    def _vessel_mask(self) -> Mask:
        space = self._space
        vessels = space.rod([(2, -8, 200), (0, -4, 152)], [9, 8]) | space.rod([(18, -2, 200), (14, 0, 148)], [10, 9])
        for side in SIDES:
            common = [(side * 4.0, -4.0, 150.0), (side * 26.0, -2.0, 112.0)]
            artery = [*common, (side * 42.0, -14.0, 80.0), (side * 54.0, -40.0, 36.0), (side * 58.0, -62.0, -4.0)]
            vessels |= space.rod([*artery, (side * 64, -66, -60)], [7, 6, 5.5, 5, 4.5, 4.5])
            vein = [(x - side * 1.0, y + 13, z) for x, y, z in artery]
            vessels |= space.rod(vein, [8, 7, 7, 6.5, 6])
            internal = [common[1], (side * 36, 22, 82), (side * 45, 30, 40), (side * 44, 10, 0)]
            vessels |= space.rod(internal, [5, 4.5, 4, 3])
        return vessels

    def _bladder_shape(self) -> tuple[Point, Point]:
        """Centre and radii of an ellipsoid that rests on the pelvic floor behind the pubis."""
        radius = (3000 * self._habitus.bladder_cc / (4 * np.pi * 0.95)) ** (1 / 3)
        radii = (1.12 * radius, 0.86 * radius, 0.98 * radius)
        return (0.0, -58 + 0.92 * radii[1], -16 + 0.95 * radii[2]), radii

    def _bladder_mask(self) -> Mask:
        centre, radii = self._bladder_shape()
        space = self._space
        distance = sum(((k - c) / r) ** 2 for k, c, r in zip((space.x, space.y, space.z), centre, radii, strict=True))
        # The intestine presses it from above
        bladder: Mask = distance < 1 + 0.16 * self._ripple + 0.12 * np.sign(centre[2] - space.z)
        _, rectum_y, rectum_radius = self._centre
        return bladder & (space.y < rectum_y - rectum_radius - 6) & ~self._bones

    def _genital_mask(self) -> Mask:
        space = self._space
        centre, radii = self._bladder_shape()
        if self._habitus.female:
            back = min(centre[1] + radii[1] + 8, 22.0)
            genitals = space.ellipsoid((self._habitus.sway[1], back, 38), (25, 19, 30))
            genitals |= space.rod([(0, back - 2, 12), (0, 16, -18), (0, 2, -60)], [13, 11, 8])
        else:
            genitals = space.ellipsoid((0, -2, -24), (23, 16, 20))
            genitals |= space.rod([(0, -4, -44), (0, 0, -66), (0, -30, -84)], [7, 10, 10])
            for side in SIDES:
                genitals |= space.ellipsoid((side * 16, 12, 0), (15, 7, 8))
        return genitals & ~self._rectum & ~self._bladder

    def _levator(self) -> Mask:
        """Funnel of muscle that carries the pelvic floor, and the sphincter below it."""
        space = self._space
        funnel = space.along((-52, 15), (-36, 26), (-12, 48))
        radius = np.hypot(space.x, (space.y - 34) / 0.9)
        shell: Mask = (np.abs(radius - funnel) < 3) & (space.y > 0) & space.between(-52, -12)
        sphincter = space.rod([(0, 28, -84), (0, 36, -48)], 15)
        return sphincter | shell

    def _side_tissue(self, side: int) -> list[tuple[Mask, float]]:
        """Muscles and fat spaces of one side."""
        space, along = self._space, self._space.along
        obturator = space.band(
            (side * along((-30, 40), (0, 50), (40, 56)), along((-30, 24), (0, 32), (40, 40))),
            (side * along((-30, 42), (0, 52), (40, 58)), along((-30, -30), (0, -28), (40, -10))),
            6,
        ) & space.between(-34, 42)
        iliacus = space.band(
            (side * along((40, 66), (70, 64), (130, 74)), along((40, 10), (70, 30), (130, 40))),
            (side * along((40, 92), (70, 106), (130, 118)), along((40, -30), (70, -34), (130, -2))),
            along((40, 10), (90, 11), (135, 6)),
        ) & space.between(40, 140)
        psoas = [(side * 40.0, 16.0, 200.0), (side * 50.0, 0.0, 120.0), (side * 70.0, -26.0, 64.0)]
        psoas += [(side * 80.0, -46.0, 14.0), (side * 96.0, -30.0, -40.0)]
        return [
            (space.ellipsoid((side * 30, 44, -64), (18, 32, 28)), FAT_HU),
            (space.ellipsoid((side * 66, -74, -30), (28, 16, 46)), FAT_HU),
            (space.rod([(side * 92, 62, 4), (side * 60, 66, -30), (side * 50, 60, -80)], [8, 9, 7]), FAT_HU),
            (obturator, MUSCLE_HU),
            (iliacus, MUSCLE_HU),
            (space.rod(psoas, [22, 20, 18, 15, 12]), MUSCLE_HU),
            (space.rod([(side * 24, 62, 46), (side * 62, 60, 32), (side * 104, 52, 12)], [8, 11, 8]), MUSCLE_HU),
        ]

    def _draw_loops(self) -> None:
        """Loops of small intestine: bent tubes that fill the room in front of the spine, above bladder and rectum."""
        space, random = self._space, self._random
        taken = self._bladder | self._genitals | self._rectum | self._bones | self._vessels | self._colon
        taken |= self._mesorectum & space.between(-40, 112)
        front = -74.0 - max(self._habitus.belly, 0) * 0.7
        for _ in range(self._habitus.loops):
            radius = random.uniform(10, 15)
            point = np.array([random.uniform(-80, 80), random.uniform(front, 10), random.uniform(55, 185)])
            heading = random.standard_normal(3)
            points: list[Point] = []
            for _ in range(int(random.integers(5, 9))):
                wide = float(np.interp(point[2], [40, 90], [40, 88]))
                deep = float(np.interp(point[2], [20, 60, 110, 190], [0, 22, -6, -10]))
                point = np.clip(point, (-wide, front, self._habitus.deepest_loop), (wide, deep, 195))
                points.append((float(point[0]), float(point[1]), float(point[2])))
                heading = heading / np.linalg.norm(heading) + 0.9 * random.standard_normal(3)
                point = point + 20 * heading / np.linalg.norm(heading)
            loop = space.rod(points, radius) & ~taken & self._cavity
            lumen = space.rod(points, radius - WALL_MM) & loop
            self._loops |= loop
            self._contents |= lumen
            if random.random() < 0.35:
                x, y, z = points[len(points) // 2]
                bubble = space.ellipsoid((x, y - 3, z), (1.5 * radius, radius, 1.5 * radius))
                self._bubbles |= bubble & lumen & (space.y < y - 1)
        # What other organs leave of a loop is sometimes no more than a sliver
        self._loops = ndimage.binary_opening(self._loops, FLAT, iterations=2)
        self._contents &= self._loops
        self._bubbles &= self._loops
