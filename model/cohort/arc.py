"""Dose of an arc: a linear function of the fluence at its control points, and the transpose of that function.

Never a matrix: for each control point, fluence is spread by the beam's kernels, weighted by what depth, distance and
the patient's density make of it along the divergent rays, and resampled to the patient's voxels (`model.dosimetry.rays`
has the axes). Resampling is separable: in the transverse plane by a small sparse matrix that all slices share, along
the patient by where each slice meets the rays.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from model.cohort.photons import COMPONENTS
from model.dosimetry.rays import SOURCE_AXIS_MM, Axis, Images, beam_directions, bilinear, magnification

SCATTER_MARGIN_MM = 40.0
"""How far beside the field dose is computed: there the scattered part has fallen to a twentieth."""


@dataclass(frozen=True)
class Aperture:
    """Edges of the bixels of one control point, in mm in the isocentre's plane.

    `v_mm` parts the leaves, `u_mm` runs along their travel.
    """

    v_mm: Axis
    u_mm: Axis

    @property
    def shape(self) -> tuple[int, int]:
        """Leaves and bixels along each."""
        return len(self.v_mm) - 1, len(self.u_mm) - 1


@dataclass(frozen=True)
class Patient:
    """What rays pass through.

    Parameters
    ----------
    density
        (slices, rows, columns) relative electron density, zero outside the body.
    z_mm, y_mm, x_mm
        Voxel centres from the isocentre, ascending and evenly spaced.
    """

    density: Images
    z_mm: Axis
    y_mm: Axis
    x_mm: Axis

    @property
    def column(self) -> NDArray[np.bool_]:
        """(rows, columns) pixels that lie in the body in any slice."""
        return np.asarray((self.density > 0).any(axis=0))

    def volume(self, dose: Tensor) -> Images:
        """Dose of the columns (pixels, slices) as a volume; zero outside the body."""
        volume = np.zeros(self.density.shape, np.float32)
        volume[:, self.column] = dose.numpy().T
        return volume * (self.density > 0)


class ArcDose:
    """Dose operator of an arc in a patient.

    Parameters
    ----------
    patient
        The patient.
    gantry_deg
        Gantry angle of each control point.
    aperture
        Bixels of each control point.
    step_mm
        Sampling along t and u.
    """

    def __init__(self, patient: Patient, gantry_deg: Sequence[float], aperture: Aperture, step_mm: float) -> None:
        self._patient, self._gantry_deg, self._aperture = patient, tuple(gantry_deg), aperture
        reach = float(np.hypot(np.abs(patient.y_mm).max(), np.abs(patient.x_mm).max()))
        self._t_mm = step_mm * np.arange(-np.ceil(reach / step_mm), np.ceil(reach / step_mm) + 1)
        half = np.ceil((np.abs(aperture.u_mm).max() + SCATTER_MARGIN_MM) / step_mm)
        self._u_mm = step_mm * np.arange(-half, half + 1)
        rows, columns = np.nonzero(patient.column)
        self._pixels_mm = (patient.y_mm[rows], patient.x_mm[columns])
        v_mm = patient.z_mm / magnification(self._t_mm)[:, None]  # (T, Z)
        self._along_v = [_tensor(c.spread(v_mm, aperture.v_mm)) for c in COMPONENTS]  # (T, Z, leaves)
        self._along_u = [_tensor(c.spread(self._u_mm, aperture.u_mm)) for c in COMPONENTS]  # (U, bixels)
        self._kept: list[_ControlPoint] | None = None

    def keep(self) -> None:
        """Hold all control points in memory, for repeated use."""
        self._kept = list(self._control_points())

    def dose(self, fluence: Tensor) -> Tensor:
        """Fluence (control points, leaves, bixels) → dose (pixels of the patient's column, slices)."""
        total = np.zeros((len(self._pixels_mm[0]), len(self._patient.z_mm)), np.float32)
        for point, open_ in zip(self._control_points(), fluence, strict=True):
            rays = torch.zeros(())
            for along_u, along_v, weight in zip(self._along_u, self._along_v, point.weights, strict=True):
                v = along_v[point.t].reshape(-1, along_v.shape[-1])  # (T·Z, leaves)
                rays = rays + (along_u @ open_.T @ v.T) * weight
            total += point.to_pixels @ rays.reshape(point.to_pixels.shape[1], -1).numpy()
        return torch.from_numpy(total)

    def transpose(self, dose: Tensor) -> Tensor:
        """Transpose of `dose`: what each bixel gives, weighted by a value for each voxel."""
        values = dose.contiguous().numpy()
        fluence = torch.zeros((len(self._gantry_deg), *self._aperture.shape))
        for index, point in enumerate(self._control_points()):
            rays = torch.from_numpy(point.to_rays @ values).reshape(len(self._u_mm), -1)  # (U, T·Z)
            for along_u, along_v, weight in zip(self._along_u, self._along_v, point.weights, strict=True):
                v = along_v[point.t].reshape(-1, along_v.shape[-1])
                fluence[index] += ((rays * weight) @ v).T @ along_u
        return fluence

    def _control_points(self) -> "Iterator[_ControlPoint]":
        yield from self._kept if self._kept is not None else map(self._control_point, self._gantry_deg)

    def _control_point(self, gantry_deg: float) -> "_ControlPoint":
        forward, across = beam_directions(gantry_deg)
        y, x = self._pixels_mm
        t = y * forward[0] + x * forward[1]
        u = (y * across[0] + x * across[1]) / magnification(t)
        first, last = np.searchsorted(self._t_mm, [t.min(), t.max()])
        span = slice(max(int(first) - 1, 0), int(last) + 1)
        t_mm = self._t_mm[span]
        to_pixels = bilinear(u, t, self._u_mm, t_mm)
        depth_mm = self._depth(t_mm, forward, across)  # (U, T, Z)
        distance = (1 / magnification(t_mm) ** 2)[:, None]
        weights = [
            _tensor(component.at_depth(depth_mm) * distance).reshape(len(self._u_mm), -1) for component in COMPONENTS
        ]
        return _ControlPoint(span, to_pixels, to_pixels.T.tocsr(), weights)

    def _depth(self, t_mm: Axis, forward: tuple[float, float], across: tuple[float, float]) -> Images:
        """Water-equivalent depth (U, T, Z) in mm where the rays meet the slices."""
        patient = self._patient
        scale = magnification(t_mm)
        u = self._u_mm[:, None] * scale
        rows, columns = (t_mm * forward[k] + u * across[k] for k in (0, 1))
        sampled = bilinear(rows.ravel(), columns.ravel(), patient.y_mm, patient.x_mm)
        density = sampled @ patient.density.reshape(len(patient.z_mm), -1).T
        density = density.reshape(len(self._u_mm), len(t_mm), -1)
        # A ray is named by the slice that it meets in the isocentre's plane
        along = _between_slices(density, patient.z_mm, scale[:, None] * patient.z_mm)
        slant = np.sqrt(1 + (self._u_mm[:, None] ** 2 + patient.z_mm**2) / SOURCE_AXIS_MM**2)
        step = ((t_mm[1] - t_mm[0]) * slant[:, None]).astype(np.float32)
        depth = (np.cumsum(along, axis=1) - along / 2) * step
        return _between_slices(depth, patient.z_mm, patient.z_mm / scale[:, None])


@dataclass(frozen=True)
class _ControlPoint:
    t: slice
    to_pixels: sparse.csr_array  # (pixels, U·T)
    to_rays: sparse.csr_array  # (U·T, pixels)
    weights: list[Tensor]  # of each component, (U, T·Z)


def _between_slices(values: Images, z_mm: Axis, wanted_mm: Axis) -> Images:
    """Resample (U, T, Z) at wanted (T, Z), linearly; beyond the first and last slice the patient goes on."""
    position = ((wanted_mm - z_mm[0]) / (z_mm[1] - z_mm[0])).clip(0, len(z_mm) - 1)
    lower = np.minimum(position.astype(np.int64), len(z_mm) - 2)
    weight = (position - lower).astype(np.float32)
    t = np.arange(len(wanted_mm))[:, None]
    return np.asarray(values[:, t, lower] * (1 - weight) + values[:, t, lower + 1] * weight, np.float32)


def _tensor(values: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
