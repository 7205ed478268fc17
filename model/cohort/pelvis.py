"""A simulated patient with rectal cancer: pelvic anatomy from smooth shapes in millimetres, drawn with one seed.

Sizes and positions follow what is usual for adults treated supine. x runs to the patient's left, y to posterior and z
to the head, with the origin midway between the femoral heads.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from model.case import EXTERNAL, Case, Prescription, Structure, VoxelGrid
from model.cohort.pelvic_anatomy import FLAT, Anatomy, Habitus
from model.cohort.space import Field, Mask, Space

FRACTIONS = 25
PRESCRIBED_GY = 50.0
TARGET = "PTV_5000"

LOWEST_MM = -110.0
"""Level of the first slice."""

BEHIND_MM = 10.0
"""How far behind the femoral heads the middle of the scan lies."""

POINT_SPREAD_MM = 1.0
"""Standard deviation of the scanner's point spread."""

GRAIN_MM = 1.6
"""Standard deviation of the kernel that correlates the noise of neighbouring voxels."""

SKIN_MM = 5.0
"""The target keeps this distance from the skin, as planners crop it out of the build-up region."""

WAVE_MM = 40.0
"""Distance over which organs bulge and shrink."""

BEND_MM = 2.0
"""How far the bends move a point."""


def simulated_pelvis(
    seed: int,
    number: int = 1,
    *,
    shape: tuple[int, int, int] = (96, 256, 256),
    spacing_mm: tuple[float, float, float] = (3.0, 2.0, 2.0),
) -> Case:
    """Return a simulated patient with rectal cancer, ready to be planned; it has neither beams nor dose.

    Parameters
    ----------
    seed
        Determines a cohort.
    number
        Which of its patients.
    shape
        Slices, rows and columns of the CT.
    spacing_mm
        Along slices, rows and columns. The CT reaches from below the perineum to the fourth lumbar vertebra if it
        covers 288 mm, and holds the largest patients within 300 × 460 mm.
    """
    random = np.random.default_rng([seed, number])
    habitus = Habitus.draw(random)
    rows_mm, columns_mm = ((n - 1) * step for n, step in zip(shape[1:], spacing_mm[1:], strict=True))
    grid = VoxelGrid(shape, spacing_mm, (-columns_mm / 2, -rows_mm / 2 + BEHIND_MM, LOWEST_MM))
    waves = [_wave(random, grid) for _ in range(3)]
    anatomy = Anatomy(_space(grid, habitus, waves), habitus, waves[0], spacing_mm, random)

    hu = ndimage.gaussian_filter(anatomy.hounsfield(), [POINT_SPREAD_MM / step for step in spacing_mm])
    grain = random.standard_normal(shape, np.float32)
    grain = ndimage.gaussian_filter(grain, [0.0, *(GRAIN_MM / step for step in spacing_mm[1:])])
    hu += grain * np.float32(habitus.noise_hu / grain.std())

    body = anatomy.body
    structures = {name: Structure(name, mask & body, "oar") for name, mask in anatomy.organs().items()}
    structures[TARGET] = Structure(TARGET, anatomy.target() & _deeper(body, SKIN_MM / spacing_mm[1]), "target")
    structures[EXTERNAL] = Structure(EXTERNAL, body, "external")
    return Case(
        hu=np.clip(np.rint(hu), -1024, 3071).astype(np.int16),
        grid=grid,
        structures=structures,
        prescription=Prescription({TARGET: PRESCRIBED_GY}, FRACTIONS, "data-set"),
        identifier=f"simulated-rectum-{seed}-{number}",
    )


def _wave(random: np.random.Generator, grid: VoxelGrid) -> NDArray[np.float32]:
    """Smooth random field over the scan, everywhere of mean 0 and standard deviation 1."""
    weights = []
    for count, step in zip(grid.shape, grid.spacing_mm, strict=True):
        place = np.arange(count)[:, None] * step / WAVE_MM
        near = np.exp(-((place + 1 - np.arange(int(place.max()) + 4)) ** 2) / (2 * 0.6**2))
        weights.append((near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32))
    knots = random.standard_normal([w.shape[1] for w in weights], np.float32)
    # Matrix products would round by how many threads they run in
    field = np.einsum("zc,cba->zba", weights[0], knots)
    field = np.einsum("yb,zba->zya", weights[1], field)
    return np.asarray(np.einsum("xa,zya->zyx", weights[2], field))


def _space(grid: VoxelGrid, habitus: Habitus, waves: list[NDArray[np.float32]]) -> Space:
    """Undo what makes this patient differ from the average: place, turns, size, and gentle bends."""
    x, y, z = (
        (grid.origin_mm[axis] + grid.spacing_mm[2 - axis] * np.arange(grid.shape[2 - axis])).astype(np.float32)
        for axis in range(3)
    )
    points: list[Field] = [x - habitus.shift[0], y[:, None] - habitus.shift[1], z[:, None, None]]
    for axis, degrees in enumerate(habitus.tilt):
        cos, sin = (np.float32(f(np.deg2rad(degrees))) for f in (np.cos, np.sin))
        a, b = (k for k in range(3) if k != axis)
        points[a], points[b] = cos * points[a] + sin * points[b], cos * points[b] - sin * points[a]
    stretch = (habitus.frame, habitus.frame, habitus.length)
    bent = [
        np.asarray(p / np.float32(s) + np.float32(BEND_MM) * wave, np.float32)
        for p, s, wave in zip(points, stretch, waves, strict=True)
    ]
    return Space(*bent)


def _deeper(body: Mask, pixels: float) -> Mask:
    """Part of the body that lies so many pixels below the skin."""
    return np.asarray(ndimage.binary_erosion(body, FLAT, iterations=max(round(pixels), 1)))
