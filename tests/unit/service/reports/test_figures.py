import io

import numpy as np
import pytest
from matplotlib.image import imread

from model.case import Case, Structure
from service.reports.content import ReportMetadata, build_report
from service.reports.figures import (
    PANELS_DPI,
    PANELS_WIDTH_IN,
    _sections,
    difference_png,
    dose_png,
    isodoses_gy,
    structure_colours,
)

COLOURS = {"PTV_5000": "#ff00ff", "PTV_4500": "#ff00ff"}


def test_isodoses_follow_every_prescription() -> None:
    assert isodoses_gy({"low": 45.0, "high": 50.0}) == pytest.approx((10.0, 25.0, 42.75, 47.5, 53.5))


def test_colours_are_one_per_structure(case: Case, metadata: ReportMetadata) -> None:
    report = build_report(case, case.dose_gy, metadata=metadata)
    colours = structure_colours(report.structures)
    assert set(colours) == set(case.structures)
    assert len(set(colours.values())) == len(colours)


def test_sections_show_anterior_and_head_on_top_and_the_patients_left_on_the_right(case: Case) -> None:
    z, y, x = (points.astype(np.float32) for points in np.indices(case.grid.shape))
    by_z, by_y, by_x = (_sections(case, index, COLOURS) for index in (z, y, x))
    for section, edges, rows, columns in (
        (0, ("R", "L", "A", "P"), by_y, by_x),
        (1, ("R", "L", "S", "I"), by_z, by_x),
        (2, ("A", "P", "S", "I"), by_z, by_y),
    ):
        assert by_z[section].edges == edges
        # Row indices of canonical grids grow to posterior, slice indices to the head, column indices to the left.
        down = 1 if edges[2] == "A" else -1
        assert (np.diff(rows[section].values, axis=0) == down).all()
        assert (np.diff(columns[section].values, axis=1) == 1).all()
    # The ellipsoids' centre.
    assert (by_z[0].values == 12).all()
    assert (by_y[1].values == 20).all()
    assert (by_x[2].values == 24).all()
    assert [section.title for section in by_z] == [
        "Axial, z = 6 mm",
        "Coronal, y = 0 mm",
        "Sagittal, x = 0 mm",
    ]


def test_sections_keep_the_proportions_of_the_patient(case: Case) -> None:
    axial, coronal, _ = _sections(case, case.dose_gy, COLOURS)
    assert axial.spacing_mm == (2.5, 2.5)
    assert coronal.spacing_mm == (3.0, 2.5)
    assert coronal.size_mm == (coronal.hu.shape[0] * 3.0, coronal.hu.shape[1] * 2.5)
    # The outline's 44 columns and three of margin on each side, as far as the grid goes.
    assert axial.hu.shape[1] == 48


def test_pictures_are_png_of_one_width(case: Case) -> None:
    cold = np.zeros(case.grid.shape, np.float32)
    for png in (
        dose_png(case, case.dose_gy, COLOURS),
        dose_png(case, cold, COLOURS),
        difference_png(case, case.dose_gy, COLOURS),
    ):
        assert imread(io.BytesIO(png)).shape[1] == round(PANELS_WIDTH_IN * PANELS_DPI)


def test_what_cannot_be_drawn_is_refused(case: Case) -> None:
    empty = Structure("PTV_5000", np.zeros(case.grid.shape, bool), "target")
    lacking = Case(
        hu=case.hu,
        grid=case.grid,
        structures={**case.structures, "PTV_5000": empty},
        prescription=case.prescription,
    )
    with pytest.raises(ValueError, match="highest prescribed target is empty"):
        difference_png(lacking, case.dose_gy, COLOURS)
