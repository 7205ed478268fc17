"""What the figures show, read back from their axes."""

import io
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from model.evaluation.figures import COLUMNS, dose_maps, dvh_curves


def panels(figure: Figure) -> dict[str, np.ndarray]:
    return {axes.get_title(): axes.images[0].get_array().filled(np.nan) for axes in figure.axes if axes.images}


def overlaps(figure: Figure) -> bool:
    """Whether the tight boxes of any two axes, titles and labels included, share a point or leave the figure."""
    figure.savefig(io.BytesIO(), dpi=50)
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    outside = [
        box for box in boxes if box.x0 < -1 or box.y0 < -1 or box.x1 > figure.bbox.x1 + 1 or box.y1 > figure.bbox.y1 + 1
    ]
    return bool(outside) or any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])


def test_maps_show_the_slice_through_the_targets_centre(block_case):
    # The target's slices are 2 to 4, so the middle one is shown; one Gy too much there, ten elsewhere.
    predicted = block_case.dose_gy + 10
    predicted[3] = block_case.dose_gy[3] + 1
    shown = panels(dose_maps(block_case, {"ours": predicted}))
    assert list(shown) == ["Reference", "CT and target", "ours", "mean error 1.00 Gy"]
    inside = block_case.external[3, 3:18, 4:21]
    np.testing.assert_allclose(shown["Reference"], np.where(inside, block_case.dose_gy[3, 3:18, 4:21], np.nan))
    np.testing.assert_allclose(shown["mean error 1.00 Gy"], 1, rtol=1e-4)
    np.testing.assert_array_equal(shown["CT and target"], block_case.hu[3, 3:18, 4:21])


def test_maps_do_not_depend_on_how_the_patient_is_stored(block_case, reorient):
    stored = reorient(block_case, (2, 0, 1), (True, False, True))
    one, other = (panels(dose_maps(case, {"ours": 0.9 * case.dose_gy})) for case in (block_case, stored))
    assert list(one) == list(other)
    for title, image in one.items():
        np.testing.assert_array_equal(image, other[title])


def test_maps_share_their_scales(block_case):
    figure = dose_maps(block_case, {"much": 1.5 * block_case.dose_gy, "little": 0.9 * block_case.dose_gy})
    scales = {(image.norm.vmin, image.norm.vmax) for axes in figure.axes for image in axes.images}
    # The dose's, the error's and the CT's window.
    assert len(scales) == 3
    assert (0, 1.5 * block_case.dose_gy[3].max()) in scales


@pytest.mark.parametrize("systems", [1, COLUMNS - 1, COLUMNS, 2 * COLUMNS])
def test_nothing_overlaps(block_case, systems):
    predictions = {f"system {k}": (1 + 0.01 * k) * block_case.dose_gy for k in range(1, systems + 1)}
    figure = dose_maps(block_case, predictions)
    assert len(panels(figure)) >= 2 + systems
    assert not overlaps(figure)
    structures = ["PTV70", "PTV56", "Parotid_L", "SpinalCord"]
    assert not overlaps(dvh_curves(block_case, predictions, structures[: systems + 1]))


def test_curves_are_the_structures_dvhs(block_case):
    figure = dvh_curves(block_case, {"hotter": block_case.dose_gy + 2}, ["PTV70", "SpinalCord"])
    assert [axes.get_title() for axes in figure.axes] == ["PTV70", "SpinalCord"]
    for axes in figure.axes:
        reference, hotter = axes.lines
        assert (reference.get_linestyle(), hotter.get_linestyle()) == ("-", "--")
        assert reference.get_label() == "Reference"
        doses = block_case.dose_gy[block_case.structures[axes.get_title()].mask]
        dose_gy, volume = reference.get_data()
        np.testing.assert_allclose(volume, [100 * np.mean(doses >= level) for level in dose_gy.astype(np.float32)])
        # The same curve, 2 Gy higher.
        steps = round(2 / (dose_gy[1] - dose_gy[0]))
        assert np.abs(hotter.get_ydata()[steps : steps + len(volume)] - volume).max() < 1
        assert axes.get_xlim()[1] > doses.max() + 2
    target, organ = figure.axes
    assert target.get_xlim()[0] > 0
    assert organ.get_xlim()[0] == 0


def test_what_cannot_be_drawn_is_refused(block_case):
    without = replace(block_case, dose_gy=None)
    with pytest.raises(ValueError, match="no reference"):
        dose_maps(without, {})
    with pytest.raises(ValueError, match="no reference"):
        dvh_curves(without, {}, ["PTV70"])
    target = block_case.structures["PTV70"]
    empty = {**block_case.structures, "PTV70": replace(target, mask=np.zeros_like(target.mask))}
    with pytest.raises(ValueError, match="empty"):
        dose_maps(replace(block_case, structures=empty), {})
