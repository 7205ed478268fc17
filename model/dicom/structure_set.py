"""RT Structure Sets (PS3.3 C.8.8.5, C.8.8.6, C.8.8.8): what they refer to, their ROIs and closed contours.

ROIs are joined by ROI Number (3006,0022), never by order; contours are located by their own points, because Contour
Image Sequence (3006,0016) may be absent or dangle.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataelem import RawDataElement

from model.dicom.attributes import integer, items, numbers, text, uid
from model.dicom.rules import Rule, refuse

CLOSED_TYPES = {"CLOSED_PLANAR", "CLOSEDPLANAR_XOR", ""}
"""Contour Geometric Type (3006,0042) of contours that enclose an area; where it is absent they are taken to."""

FARTHEST_MM = 1e6
"""No point of a patient is a kilometre away; what is computed from points that are much further away breaks."""


@dataclass(frozen=True)
class Roi:
    """A region of interest of the structure set.

    Parameters
    ----------
    number
        ROI Number (3006,0022).
    name
        ROI Name (3006,0026).
    interpreted_type
        RT ROI Interpreted Type (3006,00A4) in upper case, for example PTV, ORGAN or EXTERNAL; empty if absent.
    contour_count
        Closed contours of at least three points, in the frame of reference of the CT.
    display_colour
        ROI Display Color (3006,002A), red, green and blue in 0 … 255; None if absent.
    """

    number: int
    name: str
    interpreted_type: str
    contour_count: int
    display_colour: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class References:
    """What a structure set says it belongs to.

    Parameters
    ----------
    frames_of_reference
        UIDs of every frame of reference it names; none if it names none.
    images_by_series
        Series Instance UID → SOP Instance UIDs of its images, from Contour Image Sequence (3006,0016) of Referenced
        Frame of Reference Sequence (3006,0010).
    """

    frames_of_reference: frozenset[str]
    images_by_series: Mapping[str, frozenset[str]]


def read_references(structure_set: Dataset) -> References:
    """Collect the frames of reference, series and images that a structure set refers to."""
    frames = {uid(structure_set, "FrameOfReferenceUID")}
    frames |= {uid(roi, "ReferencedFrameOfReferenceUID") for roi in items(structure_set, "StructureSetROISequence")}
    images: dict[str, frozenset[str]] = {}
    for frame in items(structure_set, "ReferencedFrameOfReferenceSequence"):
        frames.add(uid(frame, "FrameOfReferenceUID"))
        for study in items(frame, "RTReferencedStudySequence"):
            for series in items(study, "RTReferencedSeriesSequence"):
                image_uids = {uid(i, "ReferencedSOPInstanceUID") for i in items(series, "ContourImageSequence")}
                name = uid(series, "SeriesInstanceUID")
                images[name] = images.get(name, frozenset()) | image_uids - {""}
    return References(frozenset(frames - {""}), images)


def read_contour_images(structure_set: Dataset) -> frozenset[str]:
    """SOP Instance UIDs of the images that contours say they were drawn on, in their Contour Image Sequence."""
    return frozenset(
        uid(image, "ReferencedSOPInstanceUID")
        for roi_contour in items(structure_set, "ROIContourSequence")
        for contour in items(roi_contour, "ContourSequence")
        for image in items(contour, "ContourImageSequence")
    ) - {""}


def read_rois(
    structure_set: Dataset, frame_of_reference: str, warnings: list[str]
) -> tuple[tuple[Roi, ...], Mapping[int, tuple[NDArray[np.float64], ...]]]:
    """Read ROIs and their closed contours.

    Parameters
    ----------
    structure_set
        An RT Structure Set.
    frame_of_reference
        UID of the CT's; contours of ROIs that name another one are left out.
    warnings
        Receives what is left out.

    Returns
    -------
    rois, contours_mm
        In the order of the structure set, and ROI number → contours, each (n, 3) patient points, n >= 3.

    Raises
    ------
    StudyError
        ``no-roi``, ``duplicate-roi-number``, ``damaged-contours``, ``no-contours`` or ``frame-of-reference-mismatch``.
    """
    definitions = _definitions(structure_set)
    types = {
        integer(observation, "ReferencedROINumber"): text(observation, "RTROIInterpretedType").upper()
        for observation in items(structure_set, "RTROIObservationsSequence")
    }
    colours: dict[int, tuple[int, int, int]] = {}
    contours: dict[int, list[NDArray[np.float64]]] = {}
    undefined = elsewhere = 0
    for roi_contour in items(structure_set, "ROIContourSequence"):
        number = integer(roi_contour, "ReferencedROINumber")
        if number not in definitions or number is None:
            undefined += 1
            continue
        colour = numbers(roi_contour, "ROIDisplayColor", 3)
        if colour is not None and colour.min() >= 0 and colour.max() <= 255:
            colours[number] = (int(colour[0]), int(colour[1]), int(colour[2]))
        own_frame = uid(definitions[number], "ReferencedFrameOfReferenceUID")
        if own_frame and frame_of_reference and own_frame != frame_of_reference:
            name = text(definitions[number], "ROIName")
            warnings.append(f"ROI {name} lies in another frame of reference than the CT: its contours were left out")
            elsewhere += 1
            continue
        contours.setdefault(number, []).extend(_closed_contours(roi_contour, number))
    for number, polygons in contours.items():
        once = {polygon.tobytes(): polygon for polygon in polygons}
        if len(once) < len(polygons):
            repeated = len(polygons) - len(once)
            name = text(definitions[number], "ROIName")
            warnings.append(f"{repeated} contours of ROI {name} are drawn more than once and count once")
            contours[number] = list(once.values())
    if undefined:
        warnings.append(f"contours of ROIs that the structure set does not define were left out: {undefined} ROIs")
    if elsewhere and not any(contours.values()):
        raise refuse(
            Rule.FRAME_OF_REFERENCE_MISMATCH,
            f"of {len(definitions)} ROIs {elsewhere} lie in another frame of reference than the CT, and no other has a "
            "closed contour",
            rois=len(definitions),
            elsewhere=elsewhere,
        )
    if not any(contours.values()):
        raise refuse(
            Rule.NO_CONTOURS, f"none of the {len(definitions)} ROIs has a closed contour", rois=len(definitions)
        )
    rois = tuple(
        Roi(number, text(roi, "ROIName"), types.get(number, ""), len(contours.get(number, ())), colours.get(number))
        for number, roi in definitions.items()
    )
    return rois, {number: tuple(polygons) for number, polygons in contours.items()}


def _definitions(structure_set: Dataset) -> dict[int, Dataset]:
    """ROI Number (3006,0022) → item of Structure Set ROI Sequence (3006,0020); those without a number are of no use."""
    found = [(integer(roi, "ROINumber"), roi) for roi in items(structure_set, "StructureSetROISequence")]
    numbered = [(number, roi) for number, roi in found if number is not None]
    if not numbered:
        raise refuse(Rule.NO_ROI, "the structure set defines no ROI; the file may have been damaged on its way")
    number, count = Counter(number for number, _ in numbered).most_common(1)[0]
    if count > 1:
        raise refuse(
            Rule.DUPLICATE_ROI_NUMBER, f"{count} ROIs of the structure set have the number {number}", roi_number=number
        )
    return dict(numbered)


def _closed_contours(roi_contour: Dataset, roi_number: int) -> list[NDArray[np.float64]]:
    contours = []
    for item in items(roi_contour, "ContourSequence"):
        if text(item, "ContourGeometricType") in CLOSED_TYPES:
            points_mm = _points(item, roi_number)
            if len(points_mm) >= 3:
                contours.append(points_mm)
    return contours


def _points(contour: Dataset, roi_number: int) -> NDArray[np.float64]:
    """(n, 3) patient points of Contour Data (3006,0050)."""
    if "ContourData" not in contour:
        return np.empty((0, 3))
    element = contour.get_item("ContourData")
    # Straight from the bytes of the file: structure sets hold millions of numbers
    value = element.value.split(b"\\") if isinstance(element, RawDataElement) and element.value else element.value
    try:
        values = np.asarray(value if value is not None else [], dtype=np.float64)
    except ValueError:
        values = np.array([np.nan])
    if values.size % 3 or not (np.abs(values) <= FARTHEST_MM).all():
        raise refuse(
            Rule.DAMAGED_CONTOURS,
            f"a contour of ROI {roi_number} has {values.size} values that are not triplets of numbers up to "
            f"{FARTHEST_MM:g}",
            roi_number=roi_number,
            values=int(values.size),
        )
    return values.reshape(-1, 3)
