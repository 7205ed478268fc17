from collections.abc import Callable

import numpy as np
import pytest

from model.dicom import read_dose
from model.errors import StudyError

DOSE = np.arange(5 * 4 * 3, dtype=float).reshape(5, 4, 3)
FFS = (-1, 0, 0, 0, 1, 0)


def read(study):
    return read_dose(study.write()[0])


def test_dose_in_gray_on_its_grid(empty_study) -> None:
    empty_study.add_dose(DOSE)
    volume = read(empty_study)
    assert volume.values.dtype == np.float32
    assert np.allclose(volume.values, DOSE)
    assert np.allclose(volume.grid.points_mm(np.array([2, 1, 2])), (-4, -3, 26))


@pytest.mark.parametrize(
    ("orientation", "offsets", "last_z"),
    [
        ((1, 0, 0, 0, 1, 0), [0, 3, 6, 9, 12], 32),
        ((1, 0, 0, 0, 1, 0), [0, -3, -6, -9, -12], 8),
        ((1, 0, 0, 0, 1, 0), [20, 23, 26, 29, 32], 32),
        # Relative offsets follow the normal, which points to the feet; absolute ones are z
        (FFS, [0, 3, 6, 9, 12], 8),
        (FFS, [20, 23, 26, 29, 32], 32),
    ],
)
def test_frame_offsets(empty_study, orientation, offsets, last_z) -> None:
    empty_study.add_dose(DOSE, orientation=orientation).GridFrameOffsetVector = offsets
    assert read(empty_study).grid.points_mm(np.array([4, 0, 0]))[2] == pytest.approx(last_z)


def test_single_frame_needs_no_offsets(empty_study) -> None:
    del empty_study.add_dose(DOSE[:1]).GridFrameOffsetVector
    assert read(empty_study).values.shape == (1, 4, 3)


def put(keyword: str, value: object) -> Callable:
    return lambda dose: setattr(dose, keyword, value)


@pytest.mark.parametrize(
    ("rule", "spoil"),
    [
        ("dose-unreadable", put("DoseUnits", "RELATIVE")),
        ("dose-unreadable", put("DoseGridScaling", None)),
        ("dose-unreadable", put("GridFrameOffsetVector", [0, 3, 6, 9, 13])),
        ("dose-unreadable", put("GridFrameOffsetVector", [5, 8, 11, 14, 17])),
        ("dose-unreadable", put("GridFrameOffsetVector", [0, 3])),
        ("dose-unreadable", put("PixelSpacing", None)),
        ("dose-unreadable", put("Rows", 0)),
        ("dose-unreadable", put("PixelData", b"\0\0")),
        ("dose-unreadable", put("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2")),
        ("too-large", put("NumberOfFrames", 2_000_000_000)),
    ],
)
def test_broken_rule_is_named(empty_study, rule: str, spoil: Callable) -> None:
    spoil(empty_study.add_dose(DOSE))
    with pytest.raises(StudyError) as raised:
        read(empty_study)
    assert raised.value.rule == rule
