"""The gamma index: dose difference and distance to agreement in one figure (Low et al., Med. Phys. 25, 656, 1998).

For a point r of the reference, gamma is the least length, over all points e of the evaluated dose, of the vector whose
components are their dose difference over the dose tolerance and their distance over the distance tolerance:

    Γ(r, e) = √((D_e(e) − D_r(r))² / ΔD² + |e − r|² / Δd²),    γ(r) = min over e of Γ(r, e)

The points e are searched on a cubic grid of offsets about r, which is fine against the voxels. Offsets that fall
between the same eight voxels share their neighbours, so that one matrix product interpolates the dose at all of them
for many points. A point skips the offsets that cannot lower its gamma: those farther away than its gamma allows, and
those whose eight neighbours, between which an interpolated dose lies, all differ too much.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

POINTS_AT_A_TIME = 1024
"""Points whose interpolated doses are held in memory at once: 15 MB at most with the default steps."""

CORNERS = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), axis=-1).reshape(8, 3)


@dataclass(frozen=True, eq=False)
class _Offsets:
    """Offsets of one shell that fall between the same eight voxels.

    Parameters
    ----------
    cell
        (3,) index of the first of the eight voxels, counted from the point's.
    weights
        (8, offsets) of the trilinear interpolation, in the order of `CORNERS`.
    squares
        (offsets,) squared distance over the squared distance tolerance.
    """

    cell: NDArray[np.int64]
    weights: NDArray[np.float32]
    squares: NDArray[np.float32]


def gamma(
    reference_gy: NDArray[np.floating],
    evaluated_gy: NDArray[np.floating],
    spacing_mm: tuple[float, float, float],
    *,
    dose_percent: float,
    distance_mm: float,
    normalisation_gy: float | None,
    cutoff_percent: float = 10.0,
    most_gamma: float = 2.0,
    steps_per_distance: int = 10,
    mask: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Gamma index of every voxel of the reference (Low et al., Med. Phys. 25, 656, 1998).

    The evaluated dose is interpolated linearly. Beyond the grid the dose at its edge holds, which lowers no gamma: the
    edge itself is nearer.

    Parameters
    ----------
    reference_gy, evaluated_gy
        (slices, rows, columns) dose in Gy on the same grid.
    spacing_mm
        Distance between slices, rows and columns.
    dose_percent, distance_mm
        The tolerances, such as 3 % and 3 mm.
    normalisation_gy
        Dose of which ``dose_percent`` and ``cutoff_percent`` are taken (global gamma). None for local gamma: the dose
        tolerance is taken of the reference dose of each voxel, the cut-off of the reference's maximum.
    cutoff_percent
        Reference doses below it are not judged.
    most_gamma
        Greater values read as this one; offsets beyond ``most_gamma`` · ``distance_mm`` are not searched.
    steps_per_distance
        Offsets lie on a cubic grid of step ``distance_mm`` / ``steps_per_distance``.
    mask
        (slices, rows, columns) voxels of the reference to judge; all where None.

    Returns
    -------
    NDArray[np.float32]
        (slices, rows, columns), 0 … ``most_gamma``. NaN below the cut-off, outside the mask, and where a local dose
        tolerance would be 0.

    Raises
    ------
    ValueError
        If the shapes differ, a dose is not finite, a tolerance or the normalisation is not positive, ``most_gamma``
        does not exceed 1, or there is less than one step.
    """
    if evaluated_gy.shape != reference_gy.shape or (mask is not None and mask.shape != reference_gy.shape):
        raise ValueError("the two doses and the mask must have the same shape")
    if not (np.isfinite(reference_gy).all() and np.isfinite(evaluated_gy).all()):
        raise ValueError("the doses must be finite")
    if min(dose_percent, distance_mm) <= 0 or (normalisation_gy is not None and normalisation_gy <= 0):
        raise ValueError("the tolerances and the normalisation must be positive")
    if most_gamma <= 1 or steps_per_distance < 1:
        raise ValueError("gamma is searched beyond 1, and in at least one step")

    full_gy = float(reference_gy.max()) if normalisation_gy is None else normalisation_gy
    judged = reference_gy >= cutoff_percent / 100.0 * full_gy
    if mask is not None:
        judged &= mask
    if normalisation_gy is None:
        judged &= reference_gy > 0
    expected_gy = reference_gy[judged].astype(np.float32)
    tolerance_gy = np.float32(dose_percent / 100.0) * (
        expected_gy if normalisation_gy is None else np.full_like(expected_gy, normalisation_gy)
    )

    margin = [int(most_gamma * distance_mm / step) + 2 for step in spacing_mm]
    padded = np.pad(evaluated_gy.astype(np.float32), [(width, width) for width in margin], mode="edge")
    points = np.ravel_multi_index(tuple(np.argwhere(judged).T + np.array(margin)[:, None]), padded.shape)
    strides = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    doses_gy = padded.ravel()

    at_the_point = (doses_gy[points] - expected_gy) / tolerance_gy
    least = np.minimum(at_the_point**2, np.float32(most_gamma**2))  # squared gamma so far
    for offsets in _offsets(spacing_mm, distance_mm, most_gamma, steps_per_distance):
        nearest = offsets.squares.min()
        neighbours = (offsets.cell + CORNERS) @ strides
        still_open = np.flatnonzero(least > nearest)
        for first in range(0, still_open.size, POINTS_AT_A_TIME):
            chosen = still_open[first : first + POINTS_AT_A_TIME]
            differences = doses_gy[points[chosen, None] + neighbours]  # (points, 8)
            differences -= expected_gy[chosen, None]
            differences /= tolerance_gy[chosen, None]
            bound = np.maximum(np.maximum(differences.min(axis=1), -differences.max(axis=1)), 0)
            gains = bound**2 + nearest < least[chosen]
            squares = differences[gains] @ offsets.weights  # (points, offsets)
            np.square(squares, out=squares)
            squares += offsets.squares
            chosen = chosen[gains]
            least[chosen] = np.minimum(least[chosen], squares.min(axis=1))
    result = np.full(reference_gy.shape, np.nan, np.float32)
    result[judged] = np.sqrt(least)
    return result


def passing_rate(gamma_index: NDArray[np.floating]) -> float:
    """Percentage of the judged voxels, those that are not NaN, whose gamma is at most 1; NaN if there is none."""
    judged = np.count_nonzero(~np.isnan(gamma_index))
    return float(100.0 * np.count_nonzero(gamma_index <= 1.0) / judged) if judged else float("nan")


def _offsets(
    spacing_mm: tuple[float, float, float], distance_mm: float, most_gamma: float, steps_per_distance: int
) -> Iterator[_Offsets]:
    """Offsets of the search other than 0, by shells as thick as the distance tolerance, the nearest shell first."""
    reach = int(most_gamma * steps_per_distance)
    axis = np.arange(-reach, reach + 1)
    steps = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    squares = (steps**2).sum(axis=1) / steps_per_distance**2
    inside = (squares > 0) & (squares <= most_gamma**2)
    steps, squares = steps[inside], squares[inside]
    position = steps * (distance_mm / steps_per_distance) / np.array(spacing_mm)
    keys = np.column_stack([np.sqrt(squares), position])  # (offsets, 4): shell and cell, once rounded down
    groups, group_of = np.unique(np.floor(keys).astype(np.int64), axis=0, return_inverse=True)
    for group, (_, *cell) in enumerate(groups):
        members = np.flatnonzero(group_of == group)
        beyond = (position[members] - cell)[:, None, :]  # (offsets, 1, 3), 0 … 1
        weights = np.where(CORNERS == 1, beyond, 1.0 - beyond).prod(axis=-1)  # (offsets, 8)
        yield _Offsets(np.array(cell), weights.T.astype(np.float32), squares[members].astype(np.float32))
