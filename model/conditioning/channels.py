"""The structure images x that the encoder reads, and the dose map y, from a case."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from model.case import EXTERNAL, Case
from model.checkpoint.manifest import Channel, NetworkGrid, Normalisation
from model.conditioning.beams import fields_of, open_fields
from model.conditioning.framing import Framing
from model.conditioning.site import Site
from model.dosimetry.rays import relative_electron_density

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
    warnings
        What was assumed because the case does not say.
    """

    framing: Framing
    planes: dict[Channel, Images]
    external: Images
    channels: tuple[Channel, ...]
    warnings: tuple[str, ...] = ()

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
            images[:, k] = self.planes[in_plane(channel)][neighbours]
        return images


def in_plane(channel: Channel) -> Channel:
    """Return the channel that shows the slice itself."""
    return channel.model_copy(update={"offset_mm": 0.0})


def condition(
    case: Case, site: Site, grid: NetworkGrid, channels: Sequence[Channel], normalisation: Normalisation
) -> Conditioning:
    """Compute the structure images of a case.

    Raises
    ------
    ValueError
        If the case's grid is oblique or its outline is empty, or if beams are wanted and neither the case nor the site
        has any.
    """
    canonical = case.grid.canonical()
    external = case.grid.to_canonical(case.external)
    framing = Framing.of(external, canonical, grid)
    outline = framing.images(external)
    planes: dict[Channel, Images] = {}
    wanted = dict.fromkeys(in_plane(c) for c in channels)
    of_beams = [channel for channel in wanted if channel.kind in {"open-fields", "open-field-sector"}]
    warnings: list[str] = []
    if of_beams:
        planes, warning = _beam_planes(of_beams, case, site, framing)
        warnings += [warning] if warning else []
    for channel in wanted:
        if channel not in planes:
            planes[channel] = _plane(channel, case, site, framing, normalisation)
    return Conditioning(framing, planes, outline, tuple(channels), tuple(warnings))


def _beam_planes(
    channels: Sequence[Channel], case: Case, site: Site, framing: Framing
) -> tuple[dict[Channel, Images], str | None]:
    """Open-field doses by channel, and what was assumed about the beams.

    A sum over all beams is scaled to a mean of 1 over its target; a sector's is the mean of its beams, as `open_fields`
    gives them.
    """
    fields, warning = fields_of(case, site.gantry_deg)
    density = framing.images(
        case.grid.to_canonical(relative_electron_density(np.asarray(case.hu, np.float32)) * case.external)
    )
    prescribed = case.target_map_gy()
    relative = prescribed / case.prescription.highest_gy
    levels = [dose for dose in np.unique(relative) if dose]
    lowest = {level.name: level.relative_dose for level in site.target_levels}
    sums = {c: np.zeros(density.shape, np.float32) for c in channels}
    sectors = [channel for channel in channels if channel.kind == "open-field-sector"]
    beams_in = dict.fromkeys(sectors, 0)
    # Rays are limited to those that meet any target, so all targets together are always among the regions, as the first
    regions = [framing.images(case.grid.to_canonical(prescribed > 0))]
    region_of = dict.fromkeys(channels, 0)
    for channel in channels:
        if channel.kind == "open-fields":
            above = [d for d in levels if lowest[site.level_of(float(d)).name] >= lowest[channel.name]]
            if len(above) < len(levels):
                region_of[channel] = len(regions)
                regions.append(framing.images(case.grid.to_canonical(np.isin(relative, above))))
    for field, doses in zip(fields, open_fields(density, regions, framing, fields), strict=True):
        for channel in channels:
            if channel.kind == "open-fields":
                sums[channel] += doses[region_of[channel]]
        if sectors:
            nearest = min(sectors, key=lambda c: abs((field.gantry_deg - float(c.name) + 180) % 360 - 180))
            sums[nearest] += doses[0]
            beams_in[nearest] += 1
    for channel, summed in sums.items():
        if channel.kind == "open-fields":
            target = regions[region_of[channel]]
            share = float((summed * target).sum())
            summed *= float(target.sum()) / share if share else 0.0  # noqa: PLW2901 - in place
        else:
            summed /= max(beams_in[channel], 1)  # noqa: PLW2901 - in place
    return sums, warning


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
