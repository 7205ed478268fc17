"""The structure images x that the encoder reads, and the dose map y, from a case."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from model.case import EXTERNAL, Case
from model.checkpoint.manifest import Channel, NetworkGrid, Normalisation
from model.conditioning.framing import Framing
from model.conditioning.site import Site

Images = NDArray[np.float32]


@dataclass(frozen=True)
class Conditioning:
    """A case as the network sees it.

    Parameters
    ----------
    framing
        Where the network's voxels lie in the case.
    planes
        Channel without its offset → (slices, rows, columns) images in network units.
    external
        (slices, rows, columns) share of each network pixel that lies in the patient.
    channels
        In the order of the manifest.
    """

    framing: Framing
    planes: dict[Channel, Images]
    external: Images
    channels: tuple[Channel, ...]

    @property
    def slice_count(self) -> int:
        """Number of network slices."""
        return len(self.framing.slices)

    def structure_images(self, slices: Sequence[int] | NDArray[np.int64]) -> Images:
        """Structure images x (len(slices), channels, rows, columns) of some slices.

        A neighbour that lies beyond the first or last slice is replaced by that slice.
        """
        wanted = np.asarray(slices)
        images = np.empty((len(wanted), len(self.channels), *self.external.shape[1:]), np.float32)
        for k, channel in enumerate(self.channels):
            step = round(channel.offset_mm / self.framing.slice_spacing_mm)
            neighbours = np.clip(wanted + step, 0, self.slice_count - 1)
            images[:, k] = self.planes[_in_plane(channel)][neighbours]
        return images


def _in_plane(channel: Channel) -> Channel:
    return channel.model_copy(update={"offset_mm": 0.0})


def condition(
    case: Case, site: Site, grid: NetworkGrid, channels: Sequence[Channel], normalisation: Normalisation
) -> Conditioning:
    """Compute the structure images of a case.

    Raises
    ------
    ValueError
        If the case's grid is oblique or its outline is empty.
    """
    canonical = case.grid.canonical()
    external = case.grid.to_canonical(case.external)
    framing = Framing.of(external, canonical, grid)
    outline = framing.images(external)
    planes: dict[Channel, Images] = {}
    for channel in dict.fromkeys(_in_plane(c) for c in channels):
        planes[channel] = _plane(channel, case, site, framing, normalisation)
    return Conditioning(framing, planes, outline, tuple(channels))


def _plane(channel: Channel, case: Case, site: Site, framing: Framing, normalisation: Normalisation) -> Images:
    if channel.kind == "ct":
        low, high = normalisation.ct_low_hu, normalisation.ct_high_hu
        # Outside the patient lies the couch or nothing; neither should sway the dose.
        inside = np.where(case.external, np.clip(case.hu, low, high), low)
        scaled = 2 * (inside.astype(np.float32) - low) / (high - low) - 1
        return framing.images(case.grid.to_canonical(scaled + 1)) - 1  # beyond the CT: air
    if channel.kind == "target-distance":
        return _target_distance(case, framing, normalisation.distance_limit_mm)
    if channel.kind == "target":
        prescribed = case.target_map_gy()
        levels = {
            float(d): site.level_of(float(d) / case.prescription.highest_gy).name for d in np.unique(prescribed) if d
        }
        mask = np.isin(prescribed, [dose for dose, level in levels.items() if level == channel.name])
        return framing.images(case.grid.to_canonical(mask))
    name = EXTERNAL if channel.kind == "external" else channel.name
    structure = case.structures.get(name)
    if structure is None:
        return np.zeros((len(framing.slices), len(framing.rows_mm), len(framing.columns_mm)), np.float32)
    return framing.images(case.grid.to_canonical(structure.mask))


def _target_distance(case: Case, framing: Framing, limit_mm: float) -> Images:
    """Signed distance to the nearest edge of any target, positive outside, in units of the limit, in [-1, 1]."""
    target = framing.images(case.grid.to_canonical(case.target_map_gy() > 0)) >= 0.5
    spacing = (
        framing.slice_spacing_mm,
        *(float(np.diff(axis[:2])[0]) for axis in (framing.rows_mm, framing.columns_mm)),
    )
    if not target.any():
        return np.ones(target.shape, np.float32)
    outside = ndimage.distance_transform_edt(~target, sampling=spacing)
    inside = ndimage.distance_transform_edt(target, sampling=spacing)
    return np.asarray(np.clip((outside - inside) / limit_mm, -1, 1), np.float32)


def dose_to_network(dose_gy: NDArray[np.float32], highest_gy: float, normalisation: Normalisation) -> Images:
    """Dose in Gy as y in network units."""
    return np.asarray(normalisation.dose_scale * dose_gy / highest_gy - normalisation.dose_offset, np.float32)


def dose_from_network(values: Images, highest_gy: float, normalisation: Normalisation) -> Images:
    """Dose in Gy from network units; what lies below zero is zero, nothing is cut above."""
    dose = (values + normalisation.dose_offset) / normalisation.dose_scale * highest_gy
    return np.asarray(np.maximum(dose, 0.0), np.float32)
