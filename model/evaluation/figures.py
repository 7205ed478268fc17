"""Figures that compare systems on one patient: dose and error maps, and DVH curves.

Drawn without pyplot, whose list of open figures threads would share. Save them with ``figure.savefig(path)``.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from model.case import Case
from model.case.grid import bounding_box
from model.dosimetry.dvh import dvh
from model.evaluation.target_differences import highest_target

WIDTH_IN = 7.0
"""Of a page's text."""

DPI = 300

COLUMNS = 5
"""Most dose maps side by side; more are wrapped."""

HU_WINDOW = (-160.0, 240.0)
"""Soft tissue: level 40 HU, width 400 HU."""

MARGIN_MM = 6.0
"""Space around the patient's outline."""

DOSE_COLOURS = "viridis"
ERROR_COLOURS = "inferno"
"""Dark where the error is small, as in the paper. Colour-blind readers can read both."""

ERROR_PERCENTILE = 99.0
"""Of the errors within the patient, where the error's colours saturate: a few voxels shall not darken all the rest."""

CURVE_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Of Okabe and Ito, which colour-blind readers can tell apart; black is the reference's."""

CURVE_DASHES = ((0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)), (0, (3, 1)), (0, (7, 1.5, 1.2, 1.5, 1.2, 1.5)))

DVH_STEP_GY = 0.05


def dose_maps(case: Case, predictions_gy: Mapping[str, NDArray[np.floating]]) -> Figure:
    """Draw the dose of several systems next to the reference, and their absolute errors below.

    All on the axial slice through the centre of the target with the highest prescription, seen from the feet: the
    patient's right is on the left. Below the reference: the CT with that target's outline.

    Parameters
    ----------
    case
        With its reference dose.
    predictions_gy
        System → (slices, rows, columns) dose in Gy on the case's grid.

    Raises
    ------
    ValueError
        If the case has no reference dose, or its target is empty.
    """
    if case.dose_gy is None:
        raise ValueError(f"case {case.identifier} has no reference dose")
    grid = case.grid.canonical()
    target = case.grid.to_canonical(highest_target(case))
    if not target.any():
        raise ValueError("the highest prescribed target is empty, so no slice can be chosen")
    level = int(np.rint(np.nonzero(target)[0].mean()))
    external = case.grid.to_canonical(case.external)[level]
    rows, columns = (
        slice(max(0, side.start - int(MARGIN_MM / step)), side.stop + int(MARGIN_MM / step))
        for side, step in zip(bounding_box(external[None])[1:], grid.spacing_mm[1:], strict=True)
    )
    inside = external[rows, columns]

    def cut(values: NDArray[np.generic]) -> NDArray[np.float64]:
        """Return the slice of an array on the case's grid, cropped, NaN outside the patient."""
        return np.where(inside, case.grid.to_canonical(values)[level, rows, columns], np.nan)

    doses = {"Reference": cut(case.dose_gy)} | {label: cut(dose_gy) for label, dose_gy in predictions_gy.items()}
    errors = {label: np.abs(doses[label] - doses["Reference"]) for label in predictions_gy}
    dose_scale = Normalize(0.0, max(float(np.nanmax(dose)) for dose in doses.values()))
    most_error = np.nanpercentile(list(errors.values()), ERROR_PERCENTILE) if errors else 0.0
    error_scale = Normalize(0.0, max(float(most_error), 0.1))

    extent = (0.0, inside.shape[1] * grid.spacing_mm[2], inside.shape[0] * grid.spacing_mm[1], 0.0)
    blocks = np.array_split(list(doses), -(-len(doses) // COLUMNS))
    gap, title, bar, bar_label = 0.06, 0.2, 0.1, 0.5
    width = (WIDTH_IN - bar - bar_label) / len(blocks[0]) - gap
    height = width * extent[2] / extent[1]
    figure_height = len(blocks) * 2 * (height + title) + 0.08
    figure = Figure((WIDTH_IN, figure_height), dpi=DPI)

    def panel(left: float, top: float, panel_width: float) -> Axes:
        """Place a panel; inches from the figure's top left corner."""
        return figure.add_axes(
            (left / WIDTH_IN, 1 - (top + height) / figure_height, panel_width / WIDTH_IN, height / figure_height)
        )

    def draw(axes: Axes, image: NDArray[np.float64], colours: str, scale: Normalize, heading: str) -> None:
        axes.imshow(image, colours, norm=scale, extent=extent, interpolation="nearest", aspect="auto")
        axes.set_axis_off()
        axes.set_title(heading, fontsize=7, pad=3)

    for block, labels in enumerate(blocks):
        top = block * 2 * (height + title) + title
        below = top + height + title
        for column, label in enumerate(labels):
            left = column * (width + gap)
            draw(panel(left, top, width), doses[label], DOSE_COLOURS, dose_scale, label)
            axes = panel(left, below, width)
            if label in errors:
                heading = f"mean error {np.nanmean(errors[label]):.2f} Gy"
                draw(axes, errors[label], ERROR_COLOURS, error_scale, heading)
            else:
                draw(axes, cut(case.hu), "gray", Normalize(*HU_WINDOW), "CT and target")
                outline = target[level, rows, columns]
                axes.contour(outline, [0.5], colors=[CURVE_COLOURS[0]], linewidths=0.9, extent=extent, origin="upper")
        left = len(blocks[0]) * (width + gap)
        for place, colours, scale, name, extend in (
            (top, DOSE_COLOURS, dose_scale, "Dose (Gy)", "neither"),
            (below, ERROR_COLOURS, error_scale, "Error (Gy)", "max"),
        ):
            axes = panel(left, place, bar)
            figure.colorbar(ScalarMappable(scale, colours), cax=axes, extend=extend)
            axes.set_ylabel(name, fontsize=7)
            axes.tick_params(labelsize=6.5, length=2, pad=2)
    return figure


def dvh_curves(case: Case, predictions_gy: Mapping[str, NDArray[np.floating]], structures: Sequence[str]) -> Figure:
    """Draw cumulative DVHs, one panel per structure: the reference solid and black, the systems dashed.

    The dose axis of a target begins where its curves begin to fall, for they all hug 100 % before.

    Parameters
    ----------
    case
        With its reference dose.
    predictions_gy
        System → (slices, rows, columns) dose in Gy on the case's grid.
    structures
        Names of the case's structures, such as the PTV and some organs at risk.

    Raises
    ------
    ValueError
        If the case has no reference dose, or a structure is empty.
    """
    if case.dose_gy is None:
        raise ValueError(f"case {case.identifier} has no reference dose")
    columns = min(len(structures), 3)
    rows = -(-len(structures) // columns)
    figure = Figure((WIDTH_IN, 0.5 + 2.1 * rows), dpi=DPI, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(structures) :]:
        axes.set_axis_off()
    for axes, name in zip(panels, structures, strict=False):
        structure = case.structures[name]
        least_gy, most_gy = np.inf, 0.0
        for system, (label, dose_gy) in enumerate({"Reference": case.dose_gy, **predictions_gy}.items()):
            histogram = dvh(dose_gy, structure.mask, case.grid.voxel_volume_cc)
            (line,) = axes.plot(*histogram.curve(DVH_STEP_GY), color="black", linewidth=1.4, label=label)
            if system:
                line.set_color(CURVE_COLOURS[(system - 1) % len(CURVE_COLOURS)])
                line.set_linestyle(CURVE_DASHES[(system - 1) % len(CURVE_DASHES)])
            least_gy = min(least_gy, histogram.dose_at_volume_percent(99.0))
            most_gy = max(most_gy, histogram.max_gy)
        margin_gy = 0.1 * (most_gy - least_gy)
        left_gy = max(0.0, least_gy - margin_gy) if structure.kind == "target" else 0.0
        axes.set(xlim=(left_gy, most_gy + margin_gy), ylim=(0, 102))
        axes.set_title(name, fontsize=8)
        axes.set_xlabel("Dose (Gy)", fontsize=8)
        axes.grid(color="#e3e8ee", linewidth=0.5)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[::columns]:
        axes.set_ylabel("Volume (%)", fontsize=8)
    lines, labels = panels[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=4, fontsize=7.5, frameon=False, handlelength=3)
    return figure
