"""The patient's outline, found in the CT where the structure set has none."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from model.case import VoxelGrid
from model.dicom.rules import Rule, refuse

BODY_HU = -350.0
"""Between the densest lung or foam and the skin."""

COUCH_THICKNESS_MM = 10.0
"""Parts of the threshold image thinner than this are no body: couch shells and boards are 2 to 8 mm thick."""


def derive_outline(hu: NDArray[np.float32], grid: VoxelGrid) -> NDArray[np.bool_]:
    """Mask of the body: everything above -350 HU that hangs together, without the couch, holes filled in each slice.

    Raises
    ------
    StudyError
        ``no-outline`` if the CT shows no body.
    """
    dense = hu > BODY_HU  # (slices, rows, columns)
    sizes = [2 * int(COUCH_THICKNESS_MM / spacing / 2) + 1 for spacing in grid.spacing_mm[1:]]
    thick = _dilate(_erode(dense, sizes), sizes)
    parts, count = ndimage.label(thick)
    if count == 0:
        raise refuse(Rule.NO_OUTLINE, f"the CT shows no body above {BODY_HU:g} HU and no ROI is the outline")
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    # Bring back what is thin but belongs to the body: ears, nose, skin folds
    body = dense & _dilate(largest, sizes)
    return np.stack([_fill_holes(plane) for plane in body])


def _erode(mask: NDArray[np.bool_], sizes: list[int]) -> NDArray[np.bool_]:
    for axis, size in zip((1, 2), sizes, strict=True):
        mask = ndimage.minimum_filter1d(mask.view(np.uint8), size, axis=axis, mode="constant").view(bool)
    return mask


def _dilate(mask: NDArray[np.bool_], sizes: list[int]) -> NDArray[np.bool_]:
    for axis, size in zip((1, 2), sizes, strict=True):
        mask = ndimage.maximum_filter1d(mask.view(np.uint8), size, axis=axis, mode="constant").view(bool)
    return mask


def _fill_holes(plane: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill what the border of the image cannot reach."""
    background, _ = ndimage.label(~np.pad(plane, 1))
    return np.asarray(background != background[0, 0])[1:-1, 1:-1]
