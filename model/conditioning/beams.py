"""What open fields would give: dose of unmodulated beams that just cover the targets, on the network's grid.

A field shaped to the target, attenuated along its way through the patient and spread by the inverse square, is where an
optimiser starts from; its edges are the ray shapes of the planned dose. No scatter, no penumbra, no build-up: the
network learns those.

`model.dosimetry.rays` has the beams' axes t, u and v. Divergent rays run along t at fixed (u, v), so that depth is a
running sum and reach a maximum.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.case import Case, VoxelGrid
from model.conditioning.framing import Framing
from model.dosimetry.rays import SOURCE_AXIS_MM, Images, beam_directions, bilinear, magnification

ATTENUATION_PER_MM = 0.0046
"""Effective attenuation of a 6 MV field in water beyond build-up: 4 to 5 % per cm."""

FARTHEST_MM = 700.0
"""From an isocentre to the farthest corner of the slices, and to the nearest slice. The sources of beams that meet a
patient are farther away, whatever the gantry angle; those that would stand within the patient have no rays."""

MOST_ANGLES = 36
"""Of an arc with more control points every second, third, … is taken: 10° is finer than what the grid resolves."""

STEP_MM = 4.0
"""Sampling along t and u, about the network's pixel."""


@dataclass(frozen=True)
class Field:
    """One gantry angle, IEC 61217 for a patient lying head first, supine, and its isocentre (z, y, x) in mm.

    The isocentre counts from the centre of the case's first voxel in canonical order.
    """

    gantry_deg: float
    isocentre_mm: tuple[float, float, float]


def fields_of(case: Case, usual_gantry_deg: Sequence[float]) -> tuple[tuple[Field, ...], str | None]:
    """Return the fields of a case: its plan's, else the site's usual arrangement around the middle of the targets.

    Returns
    -------
    fields, warning
        The warning tells, where the usual arrangement was taken, that it was and why.

    Raises
    ------
    ValueError
        If neither the case nor the site has beams.
    """
    grid = case.grid.canonical()
    warning = None
    if not case.beams:
        warning = "the study has no plan with beams; the site's usual fields are assumed"
    elif any(beam.has_turned_couch for beam in case.beams):
        warning = "the plan's couch is turned, which the model does not know; the site's usual fields are assumed"
    elif not all(beam.isocentre_mm is None or _is_near(beam.isocentre_mm, grid) for beam in case.beams):
        warning = "an isocentre of the plan lies far from the CT; the site's usual fields are assumed"
    if warning is None:
        angles = [(angle, beam.isocentre_mm) for beam in case.beams for angle in beam.gantry_deg]
    else:
        angles = [(angle, None) for angle in usual_gantry_deg]
    if not angles:
        raise ValueError("there are no beams: the case has none and the site no usual arrangement")
    every = -(-len(angles) // MOST_ANGLES)
    middle = _middle_of_targets_mm(case)
    fields = []
    for gantry_deg, isocentre in angles[::every]:
        point = middle
        if isocentre is not None:
            x, y, z = (float(a - b) for a, b in zip(isocentre, grid.origin_mm, strict=True))
            point = (z, y, x)
        fields.append(Field(gantry_deg, point))
    return tuple(fields), warning


def _is_near(isocentre_mm: tuple[float, float, float], grid: VoxelGrid) -> bool:
    """Whether rays from around an isocentre leave the source before they reach the voxels of a grid."""
    low, high = grid.points_mm(np.array([(0, 0, 0), np.array(grid.shape) - 1])) - isocentre_mm
    farthest_mm = np.maximum(np.abs(low), np.abs(high))
    return bool(np.hypot(*farthest_mm[:2]) <= FARTHEST_MM and low[2] <= FARTHEST_MM and high[2] >= -FARTHEST_MM)


def _middle_of_targets_mm(case: Case) -> tuple[float, float, float]:
    target = case.grid.to_canonical(case.target_map_gy() > 0)
    if not target.any():  # then no field has anything to cover, wherever it points
        target = np.ones_like(target)
    means = [float(np.mean(k)) for k in np.nonzero(target)]
    spacing = case.grid.canonical().spacing_mm
    return means[0] * spacing[0], means[1] * spacing[1], means[2] * spacing[2]


def open_fields(
    density: Images, targets: Sequence[Images], framing: Framing, fields: Sequence[Field]
) -> Iterator[list[Images]]:
    """Yield, field after field, the dose of a field shaped to each target.

    Parameters
    ----------
    density
        (slices, rows, columns) relative electron density on the network's grid, 0 outside the patient.
    targets
        Share of each network pixel that lies in the target, same shape. A ray that only touches one counts in part.
    framing
        Where the network's grid lies.
    fields
        Beams.

    Yields
    ------
    For each target the dose (slices, rows, columns), 1 without attenuation at the isocentre's distance; zero for an
    empty target.
    """
    union = np.max(targets, axis=0)
    for field in fields:
        if not union.any():
            yield [np.zeros(density.shape, np.float32) for _ in targets]
            continue
        beam = _Beam(field, framing, union)
        density_along = beam.along(density)
        depth_mm = (np.cumsum(density_along, axis=0) - density_along / 2) * np.float32(STEP_MM)
        primary = np.exp(-ATTENUATION_PER_MM * depth_mm) / beam.magnification[:, None, None] ** 2
        yield [beam.back(primary * beam.along(target).max(axis=0)) for target in targets]


class _Beam:
    """Resampling between the network's grid and one beam's axes, limited to the rays that meet a target."""

    def __init__(self, field: Field, framing: Framing, target: Images) -> None:
        self._forward, self._across = beam_directions(field.gantry_deg)
        z_mm = framing.slices * framing.grid.spacing_mm[0]
        self._rows_mm = framing.rows_mm - field.isocentre_mm[1]
        self._columns_mm = framing.columns_mm - field.isocentre_mm[2]
        self._z_mm = z_mm - field.isocentre_mm[0]
        y, x = np.meshgrid(self._rows_mm, self._columns_mm, indexing="ij")
        t, u = self._to_beam(y, x)
        reached = u[target.max(axis=0) > 0]
        # Whole steps from the isocentre, so that a mirrored beam is sampled at the mirrored points
        self._t_mm = STEP_MM * np.arange(np.floor(t.min() / STEP_MM), np.ceil(t.max() / STEP_MM) + 1)
        self._u_mm = STEP_MM * np.arange(np.floor(reached.min() / STEP_MM) - 2, np.ceil(reached.max() / STEP_MM) + 3)
        self.magnification = magnification(self._t_mm).astype(np.float32)
        self._to_network = bilinear(t.ravel(), u.ravel(), self._t_mm, self._u_mm)
        across = self._u_mm[None, :] * self.magnification[:, None]
        rows = self._t_mm[:, None] * self._forward[0] + across * self._across[0]
        columns = self._t_mm[:, None] * self._forward[1] + across * self._across[1]
        self._from_network = bilinear(rows.ravel(), columns.ravel(), self._rows_mm, self._columns_mm)

    def _to_beam(
        self, y: NDArray[np.float64], x: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        t = y * self._forward[0] + x * self._forward[1]
        u = (y * self._across[0] + x * self._across[1]) * SOURCE_AXIS_MM / (SOURCE_AXIS_MM + t)
        return t, u

    def along(self, images: Images) -> Images:
        """(slices, rows, columns) on the network's grid → (t, u, v) along the beam; v takes the slices' places."""
        in_plane = self._from_network @ images.reshape(len(images), -1).T
        return self._between_slices(in_plane.reshape(len(self._t_mm), len(self._u_mm), -1), self.magnification)

    def back(self, values: Images) -> Images:
        """(t, u, v) along the beam → (slices, rows, columns) on the network's grid, zero beside the rays."""
        in_slices = self._between_slices(values, np.reciprocal(self.magnification))
        flat = self._to_network @ in_slices.reshape(-1, in_slices.shape[-1])
        return np.ascontiguousarray(flat.T).reshape(-1, len(self._rows_mm), len(self._columns_mm))

    def _between_slices(self, values: Images, scale: Images) -> Images:
        """Resample (t, u, slices) at z · scale(t), linearly; zero beyond the first and last slice."""
        count = len(self._z_mm)
        if count == 1:
            return values
        position = (self._z_mm[None, :] * scale[:, None] - self._z_mm[0]) / (self._z_mm[1] - self._z_mm[0])  # (t, v)
        lower = np.clip(np.floor(position).astype(np.int64), 0, count - 2)
        weight = (position - lower).astype(np.float32)
        beyond = (position < -0.5) | (position > count - 0.5)
        low_weight, high_weight = np.clip(1 - weight, 0, 1), np.clip(weight, 0, 1)
        low_weight[beyond] = high_weight[beyond] = 0
        low = np.take_along_axis(values, lower[:, None, :], axis=2)
        high = np.take_along_axis(values, lower[:, None, :] + 1, axis=2)
        return np.asarray(low * low_weight[:, None, :] + high * high_weight[:, None, :], np.float32)
