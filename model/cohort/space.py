"""Shapes in millimetres that simulated anatomies are made of.

x runs to the patient's left, y to posterior and z to the head, as in the patient coordinate system.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Field = NDArray[np.floating]
Point = tuple[float, float, float]
Window = tuple[slice, slice, slice]

LEVEL_MM = 0.25
"""Steps of z in which profiles are looked up."""


@dataclass(frozen=True)
class Space:
    """Coordinates of voxel centres in the average patient, in mm; how a patient differs from it is undone in them."""

    x: Field  # (slices, rows, columns)
    y: Field  # (slices, rows, columns)
    z: Field  # (slices, 1, 1), or (slices, rows, columns)

    def along(self, *profile: tuple[float, float]) -> Field:
        """Value at every z, in the shape of z, between (z, value) pairs in ascending z."""
        z, value = np.array(profile).T
        levels, place = self._levels
        values: Field = np.interp(levels, z, value).astype(self.z.dtype)[place]
        return values

    def between(self, low: float | Field, high: float | Field) -> Mask:
        """Where z lies from one level up to another."""
        mask: Mask = (self.z >= low) & (self.z < high)
        return mask

    def ellipsoid(self, centre: Point, radii: Point) -> Mask:
        """Ellipsoid; centre and radii are (x, y, z)."""
        window, (x, y, z) = self._near(np.subtract(centre, radii), np.add(centre, radii))
        (cx, cy, cz), (rx, ry, rz) = centre, radii
        mask = np.zeros(self.x.shape, np.bool_)
        mask[window] = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2 < 1
        return mask

    def tube(
        self, centre: tuple[Field | float, Field | float], radii: tuple[Field | float, Field | float], power: float = 2
    ) -> Mask:
        """Tube along z of (super)elliptic section; centre and radii are (x, y)."""
        (x, y), (rx, ry) = centre, radii
        mask: Mask = np.abs((self.x - x) / rx) ** power + np.abs((self.y - y) / ry) ** power < 1
        return mask

    def rod(self, points: Sequence[Point], radius: float | Sequence[float]) -> Mask:
        """Everything within a radius of a line through points (x, y, z); the radius may be one for each point."""
        radii = [radius] * len(points) if isinstance(radius, float | int) else list(radius)
        mask = np.zeros(self.x.shape, np.bool_)
        for (start, first), (end, last) in pairwise(zip(points, radii, strict=True)):
            reach = max(first, last)
            window, (x, y, z) = self._near(np.minimum(start, end) - reach, np.maximum(start, end) + reach)
            step = np.subtract(end, start)
            offset = (x - start[0], y - start[1], z - start[2])
            place = np.clip(sum(o * float(s) for o, s in zip(offset, step, strict=True)) / float(step @ step), 0, 1)
            distance = sum((o - place * float(s)) ** 2 for o, s in zip(offset, step, strict=True))
            mask[window] |= distance < (first + place * (last - first)) ** 2
        return mask

    def band(self, start: tuple[Field, Field], end: tuple[Field, Field], half_thickness: Field | float) -> Mask:
        """Everything that in its transverse plane is so near to a line between two points (x, y)."""
        reach = float(np.max(half_thickness))
        low = [np.minimum(a, b).min() - reach for a, b in zip(start, end, strict=True)]
        high = [np.maximum(a, b).max() + reach for a, b in zip(start, end, strict=True)]
        window, (x, y, _) = self._near(np.array([*low, -np.inf]), np.array([*high, np.inf]))
        x0, y0, x1, y1, half = (np.broadcast_to(v, self.x.shape)[window] for v in (*start, *end, half_thickness))
        step_x, step_y = x1 - x0, y1 - y0
        x, y = x - x0, y - y0
        place = np.clip((x * step_x + y * step_y) / (step_x**2 + step_y**2), 0, 1)
        mask = np.zeros(self.x.shape, np.bool_)
        mask[window] = (x - place * step_x) ** 2 + (y - place * step_y) ** 2 < half**2
        return mask

    def _near(self, low: NDArray[np.floating], high: NDArray[np.floating]) -> tuple[Window, tuple[Field, Field, Field]]:
        """Window of the grid beyond which no voxel lies between two corners (x, y, z), and x, y and z in it."""
        spans = []
        for axis, (least, greatest) in enumerate(self._extents):
            hit = np.flatnonzero((greatest >= low[2 - axis]) & (least <= high[2 - axis]))
            spans.append(slice(int(hit[0]), int(hit[-1]) + 1) if len(hit) else slice(0, 0))
        window = (spans[0], spans[1], spans[2])
        z = self.z[window] if self.z.shape == self.x.shape else self.z[spans[0]]
        return window, (self.x[window], self.y[window], z)

    @cached_property
    def _levels(self) -> tuple[Field, NDArray[np.intp]]:
        """Levels between which z is not told apart where it varies from voxel to voxel, and which one each is at."""
        if self.z.size == len(self.z):
            return self.z.ravel(), np.arange(len(self.z)).reshape(self.z.shape)
        low = float(self.z.min())
        place = np.rint((self.z - low) / LEVEL_MM).astype(np.intp)
        return low + LEVEL_MM * np.arange(int(place.max()) + 1), place

    @cached_property
    def _extents(self) -> tuple[tuple[Field, Field], ...]:
        """Least and greatest z of every slice, y of every row, x of every column."""
        return tuple(
            (values.min(axis=others), values.max(axis=others))
            for values, others in ((self.z, (1, 2)), (self.y, (0, 2)), (self.x, (0, 1)))
        )
