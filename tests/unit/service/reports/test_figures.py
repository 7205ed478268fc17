import io
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from model.case import EXTERNAL, Case, Structure, VoxelGrid
from service.reports.colours import structure_colours
from service.reports.content import Report, ReportMetadata
from service.reports.evaluation import build_report
from service.reports.figures import DPI, MOST_HEIGHT_IN, WIDTH_IN, _planes, _Style, draw_dvh, draw_pictures
from service.reports.subject import Doses, GammaMap, Subject


def style_of(report: Report) -> _Style:
    return _Style(report, structure_colours(report.structures), {s.name: str(s.number) for s in report.structures})


def test_isodoses_follow_every_prescription(report: Report) -> None:
    # 20, 50, 70, 95, 100 and 107 % of 50 Gy, 95 % of 45 Gy; 90 % of 50 Gy is too near that
    assert style_of(report).isodoses_gy() == pytest.approx((10, 25, 35, 42.75, 45, 47.5, 50, 53.5))


def test_isodoses_stay_below_the_greatest_dose_if_that_is_all(
    case: Case, subject: Subject, metadata: ReportMetadata
) -> None:
    report = build_report(replace(subject, prescription=None), Doses(case.dose_gy), metadata)
    assert max(style_of(report).isodoses_gy()) == pytest.approx(0.95 * 51)


def test_sections_show_anterior_and_head_on_top_and_the_patients_left_on_the_right(
    case: Case, subject: Subject, report: Report
) -> None:
    z, y, x = (points.astype(np.float32) for points in np.indices(case.grid.shape))
    planes = _planes(subject, case.dose_gy, (12, 20, 24), style_of(report))
    for plane, edges, rows, columns in zip(
        planes,
        (("R", "L", "A", "P"), ("R", "L", "S", "I"), ("A", "P", "S", "I")),
        (y, z, z),
        (x, x, y),
        strict=True,
    ):
        assert plane.edges == edges
        # Row indices of canonical grids grow to posterior, slice indices to the head, column indices to the left
        down = 1 if edges[2] == "A" else -1
        assert (np.diff(plane.cut(case.grid, rows), axis=0) == down).all()
        assert (np.diff(plane.cut(case.grid, columns), axis=1) == 1).all()
        row, column = (int(k) for k in plane.centre)
        assert [plane.cut(case.grid, index)[row, column] for index in (z, y, x)] == [12, 20, 24]
    assert [plane.title for plane in planes] == ["Axial, z = 6 mm", "Coronal, y = 0 mm", "Sagittal, x = 0 mm"]
    assert planes[0].spacing_mm == (2.5, 2.5)
    assert planes[1].spacing_mm == (3.0, 2.5)
    # The outline's 44 columns and three of margin on each side, as far as the grid goes
    assert planes[0].shape[1] == 48


def test_pictures_are_of_one_width_and_not_too_high(
    subject: Subject, doses: Doses, report: Report, gamma: GammaMap
) -> None:
    pictures = draw_pictures(subject, doses, report, gamma, structure_colours(report.structures))
    assert [picture.group for picture in pictures] == ["dose", "dose", "comparison", "spread"]
    assert pictures[0].title == "Dose through the centre of PTV_5000"
    for picture in pictures:
        height, width = imread(io.BytesIO(picture.jpeg), format="jpeg").shape[:2]
        assert width == round(WIDTH_IN * DPI)
        assert picture.group == "comparison" or height <= MOST_HEIGHT_IN * DPI + 1


def test_a_dose_of_nothing_and_a_patient_without_targets_can_be_drawn(
    case: Case, subject: Subject, metadata: ReportMetadata
) -> None:
    structures = {EXTERNAL: case.structures[EXTERNAL], "Rectum": case.structures["Rectum"]}
    bare = Subject(subject.hu, subject.grid, structures, None)
    for dose_gy in (case.dose_gy, np.zeros_like(case.dose_gy)):
        doses = Doses(dose_gy)
        report = build_report(bare, doses, metadata)
        colours = structure_colours(report.structures)
        (picture,) = draw_pictures(bare, doses, report, None, colours)
        assert picture.title == "Dose through the hottest point"
        assert draw_dvh(report, colours).startswith("<svg")


def test_orientation_of_the_grid_does_not_change_the_pictures(
    case: Case, subject: Subject, report: Report, doses: Doses
) -> None:
    # The same patient with slices from head to feet as the last axis, and columns to the patient's right
    grid = VoxelGrid(
        (48, 40, 24), (2.5, 2.5, 3.0), (57.5, -50.0, 39.0), ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
    )
    assert grid.canonical().same_as(case.grid)
    turned = Subject(
        grid.from_canonical(subject.hu),
        grid,
        {
            name: Structure(name, grid.from_canonical(s.mask), s.kind, s.roi_name, s.roi_number)
            for name, s in subject.structures.items()
        },
        subject.prescription,
    )
    colours = structure_colours(report.structures)
    drawn = [
        [picture.jpeg for picture in draw_pictures(subject_, Doses(dose_gy), report, None, colours)]
        for subject_, dose_gy in ((subject, doses.dose_gy), (turned, grid.from_canonical(doses.dose_gy)))
    ]
    assert drawn[0] == drawn[1]


def test_curves_bear_numbers(report: Report) -> None:
    svg = draw_dvh(report, structure_colours(report.structures))
    assert svg.startswith("<svg")
    # A box behind the number of each of the four structures with a dose, except the External
    assert svg.count("<!-- 1 -->") == svg.count("<!-- 5 -->") == 1
    assert "<!-- 6 -->" not in svg
