"""Geometry of photon beams: divergent rays in a transverse plane, and what they pass through.

Each beam has axes of its own: t along the central ray away from the source, 0 in the isocentre; u across it in the
transverse plane; v towards the head; u and v are measured where the ray crosses the isocentre's plane. Divergent rays
run along t at fixed (u, v).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Images = NDArray[np.float32]
Axis = NDArray[np.float64]

SOURCE_AXIS_MM = 1000.0
"""Distance from source to isocentre of every common linear accelerator."""


def relative_electron_density(hu: Images) -> Images:
    """Electron density relative to water, after Thomas (Br. J. Radiol. 72, 781, 1999): bone rises more slowly."""
    return np.asarray(np.where(hu <= 100, 1 + hu / 1000, 1 + hu / 1950).clip(0), np.float32)


def beam_directions(gantry_deg: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return unit vectors (y, x) of a beam along t and along u.

    IEC 61217: at 0° the source is anterior of a head-first supine patient, at 90° on the patient's left.
    """
    angle = np.deg2rad(gantry_deg)
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    return (cos, -sin), (sin, cos)


def magnification(t_mm: Axis) -> Axis:
    """Return how much wider the beam is than in the isocentre's plane."""
    return (SOURCE_AXIS_MM + t_mm) / SOURCE_AXIS_MM


def bilinear(first_mm: Axis, second_mm: Axis, first_axis_mm: Axis, second_axis_mm: Axis) -> sparse.csr_array:
    """Matrix (points, len(first axis) · len(second axis)) of bilinear interpolation; zero outside the axes."""
    points = np.arange(len(first_mm))
    rows, columns, weights = [], [], []
    for index, weight in _taps(first_mm, first_axis_mm):
        for other, other_weight in _taps(second_mm, second_axis_mm):
            both = weight * other_weight
            keep = both > 0
            rows.append(points[keep])
            columns.append(index[keep] * len(second_axis_mm) + other[keep])
            weights.append(both[keep])
    shape = (len(first_mm), len(first_axis_mm) * len(second_axis_mm))
    values = np.concatenate(weights).astype(np.float32)
    return sparse.csr_array((values, (np.concatenate(rows), np.concatenate(columns))), shape=shape)


def _taps(points_mm: Axis, axis_mm: Axis) -> Iterator[tuple[NDArray[np.int64], Axis]]:
    position = (points_mm - axis_mm[0]) / (axis_mm[1] - axis_mm[0])
    lower = np.floor(position).astype(np.int64)
    for tap in (lower, lower + 1):
        weight = 1 - np.abs(position - tap)
        yield tap.clip(0, len(axis_mm) - 1), np.where((tap >= 0) & (tap < len(axis_mm)), weight, 0.0)
