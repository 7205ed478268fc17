"""Pictures of a report: DVH curves as SVG, dose on CT as PNG.

Drawn without pyplot, whose list of open figures threads would share.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import NDArray

from model.case import Case, VoxelGrid
from model.case.grid import bounding_box
from service.reports.content import Report, StructureReport

T = TypeVar("T", bound=np.generic)

TARGET_COLOURS = ("#c2185b", "#f06292", "#7b1fa2", "#b39ddb")
"""Pinks and purples, the highest prescription first; the dose's colour map has neither."""

OAR_COLOURS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#8c510a",
    "#56b4e9",
    "#4d5a66",
    "#d55e00",
    "#8a9a00",
    "#1f3a6e",
    "#17a2a2",
    "#a6761d",
    "#9aa5b1",
)
"""Hues with steps in lightness, after Okabe and Ito, so that colour-blind readers can tell them apart."""

EXTERNAL_COLOUR = "#b0b7bf"

INK = "#1f2933"
MUTED = "#66727f"

HU_WINDOW = (-160.0, 240.0)
"""Soft tissue: level 40 HU, width 400 HU."""

WASH_FROM = 0.1
"""Share of the highest prescription below which the dose is not coloured."""

DIFFERENCE_FROM = 0.01
DIFFERENCE_LIMIT = 0.1
"""Differences, as shares of the highest prescription, below which none is coloured and above which colours saturate."""

MARGIN_MM = 8.0
"""Space around the patient's outline."""

BEYOND_TARGETS_MM = 60.0
"""How far coronal and sagittal sections reach above and below the targets."""

RULER_MM = 50.0

PANELS_WIDTH_IN = 7.3
PANELS_DPI = 165.0


def structure_colours(structures: Sequence[StructureReport]) -> dict[str, str]:
    """Colour of each structure by name, in CSS notation; palettes repeat when they run out."""
    palettes = {"target": TARGET_COLOURS, "oar": OAR_COLOURS, "external": (EXTERNAL_COLOUR,)}
    colours: dict[str, str] = {}
    used = dict.fromkeys(palettes, 0)
    for structure in structures:
        palette = palettes[structure.kind]
        colours[structure.name] = palette[used[structure.kind] % len(palette)]
        used[structure.kind] += 1
    return colours


def dvh_svg(report: Report, colours: Mapping[str, str]) -> str:
    """Cumulative DVH of all structures but the External as an ``<svg>`` element: prediction solid, reference dashed."""
    figure = Figure(figsize=(7.3, 3.4), layout="constrained")
    axes = figure.add_subplot()
    highest_gy = max(report.prescription.dose_gy.values())
    for name, level_gy in report.prescription.dose_gy.items():
        axes.axvline(level_gy, color=colours[name], linewidth=0.7, alpha=0.6, zorder=1)
    # Targets are drawn last, on top.
    for structure in reversed(report.structures):
        if structure.kind == "external":
            continue
        width = 2.0 if structure.kind == "target" else 1.4
        for dose, dashes, share in ((structure.reference, (0, (4, 2)), 0.7), (structure.predicted, "solid", 1.0)):
            if dose:
                curve = dose.dvh
                line = axes.plot(curve.dose_gy, curve.volume_percent, color=colours[structure.name])[0]
                line.set(linestyle=dashes, linewidth=width * share)
                highest_gy = max(highest_gy, dose.metrics.max_gy or 0.0)
    axes.set(xlim=(0, 1.04 * highest_gy), ylim=(0, 102), xlabel="Dose (Gy)", ylabel="Volume (%)")
    axes.set_yticks(range(0, 101, 20))
    axes.grid(color="#e3e8ee", linewidth=0.6)
    axes.tick_params(colors=MUTED, labelsize=8, length=0)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=INK, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#9aa5b1")
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


@dataclass(frozen=True)
class _Section:
    """A plane through the patient, cropped; arrays are (rows, columns) with the first row on top.

    Parameters
    ----------
    title
        Which plane, and where it lies.
    edges
        Patient directions at the picture's left, right, top and bottom.
    spacing_mm
        Between rows and between columns.
    hu, values
        CT and what is coloured.
    targets
        Colour and mask of each prescribed target.
    """

    title: str
    edges: tuple[str, str, str, str]
    spacing_mm: tuple[float, float]
    hu: NDArray[np.generic]
    values: NDArray[np.floating]
    targets: tuple[tuple[str, NDArray[np.bool_]], ...]

    @property
    def size_mm(self) -> tuple[float, float]:
        """Height and width."""
        rows, columns = self.hu.shape
        return rows * self.spacing_mm[0], columns * self.spacing_mm[1]


@dataclass(frozen=True)
class _Wash:
    """How values are coloured on the CT; those within ``clear`` are not."""

    label: str
    colour_map: str
    scale: Normalize
    clear: tuple[float, float]
    lines: tuple[float, ...] = ()

    def translucent(self) -> ListedColormap:
        """Colour map that lets the CT shine through, wholly where values are clear."""
        shares = np.linspace(0.0, 1.0, 512)
        values = np.asarray(self.scale.inverse(shares))
        rgba = colormaps[self.colour_map](shares)
        rgba[:, 3] = np.where((values >= self.clear[0]) & (values <= self.clear[1]), 0.0, 0.5)
        return ListedColormap(rgba)


def isodoses_gy(prescription: Mapping[str, float]) -> tuple[float, ...]:
    """Doses whose lines are drawn: 20 %, 50 % and 107 % of the highest prescription, 95 % of each."""
    highest_gy = max(prescription.values())
    return tuple(sorted({share * highest_gy for share in (0.2, 0.5, 1.07)} | {0.95 * x for x in prescription.values()}))


def dose_png(case: Case, dose_gy: NDArray[np.floating], colours: Mapping[str, str]) -> bytes:
    """PNG of a dose on the CT, in three planes through the centroid of the highest prescribed target.

    Shows a colour wash, isodose lines (`isodoses_gy`) and the targets' contours.

    Parameters
    ----------
    case
        CT, structures and prescription; its grid may have any aligned orientation.
    dose_gy
        (slices, rows, columns) dose in Gy on the case's grid.
    colours
        Colour of each target by name.

    Raises
    ------
    ValueError
        If the outline or the highest prescribed target is empty, or the grid is oblique.
    """
    highest_gy = case.prescription.highest_gy
    wash = _Wash(
        label="Dose (Gy)",
        colour_map="turbo",
        scale=Normalize(0.0, max(1.15 * highest_gy, float(dose_gy.max()))),
        clear=(-np.inf, WASH_FROM * highest_gy),
        lines=isodoses_gy(case.prescription.dose_gy),
    )
    return _panels_png(case, dose_gy, wash, colours)


def difference_png(case: Case, difference_gy: NDArray[np.floating], colours: Mapping[str, str]) -> bytes:
    """PNG of predicted minus reference dose on the CT; parameters and errors as for `dose_png`."""
    limit_gy = DIFFERENCE_LIMIT * case.prescription.highest_gy
    wash = _Wash(
        label="Predicted − reference (Gy)",
        colour_map="RdBu_r",
        scale=Normalize(-limit_gy, limit_gy),
        clear=(-DIFFERENCE_FROM * case.prescription.highest_gy, DIFFERENCE_FROM * case.prescription.highest_gy),
    )
    return _panels_png(case, difference_gy, wash, colours)


def _panels_png(case: Case, values: NDArray[np.floating], wash: _Wash, colours: Mapping[str, str]) -> bytes:
    """Draw values on the CT: three panels of equal height, each at its own scale, and a colour bar."""
    sections = _sections(case, values, colours)
    gap_in, title_in, bar_in = 0.08, 0.22, 0.62
    shapes = [width_mm / height_mm for height_mm, width_mm in (section.size_mm for section in sections)]
    panel_in = (PANELS_WIDTH_IN - bar_in - len(shapes) * gap_in) / sum(shapes)
    height_in = panel_in + title_in
    figure = Figure(figsize=(PANELS_WIDTH_IN, height_in), dpi=PANELS_DPI)
    left_in = 0.0
    for section, shape in zip(sections, shapes, strict=True):
        width_in = shape * panel_in
        place = (left_in / PANELS_WIDTH_IN, 0.0, width_in / PANELS_WIDTH_IN, panel_in / height_in)
        _draw_section(figure.add_axes(place), section, wash)
        left_in += width_in + gap_in
    place = (left_in / PANELS_WIDTH_IN, 0.03 * panel_in / height_in, 0.018, 0.94 * panel_in / height_in)
    _draw_colour_bar(figure.add_axes(place), wash)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi="figure")
    return image.getvalue()


def _sections(case: Case, values: NDArray[np.floating], colours: Mapping[str, str]) -> list[_Section]:
    """Axial, coronal and sagittal sections through the centroid of the highest prescribed target."""
    grid = case.grid.canonical()
    prescribed = case.prescription.dose_gy
    high_target = case.grid.to_canonical(case.structures[max(prescribed, key=lambda name: prescribed[name])].mask)
    if not high_target.any():
        raise ValueError("the highest prescribed target is empty, so no section can be chosen")
    centre = [int(np.rint(indices.mean())) for indices in np.nonzero(high_target)]
    treated = _grown(bounding_box(case.grid.to_canonical(case.target_map_gy() > 0)), grid, BEYOND_TARGETS_MM)
    external = case.grid.to_canonical(case.external)
    sections = []
    for axis, (name, edges) in enumerate(
        (("Axial", ("R", "L", "A", "P")), ("Coronal", ("R", "L", "S", "I")), ("Sagittal", ("A", "P", "S", "I")))
    ):
        slab = [treated[0], slice(0, grid.shape[1]), slice(0, grid.shape[2])]
        slab[axis] = slice(centre[axis], centre[axis] + 1)
        box = _grown(_outline_box(external, (slab[0], slab[1], slab[2])), grid, MARGIN_MM)
        crop = tuple(centre[axis] if k == axis else side for k, side in enumerate(box))
        # Rows of coronal and sagittal sections are slices, which run to the head: upwards in the picture.
        upright = slice(None) if axis == 0 else slice(None, None, -1)

        def cut(array: NDArray[T], crop: tuple[slice | int, ...] = crop, upright: slice = upright) -> NDArray[T]:
            return case.grid.to_canonical(array)[crop][upright]

        position_mm = grid.origin_mm[2 - axis] + centre[axis] * grid.spacing_mm[axis]
        row_mm, column_mm = (spacing for k, spacing in enumerate(grid.spacing_mm) if k != axis)
        sections.append(
            _Section(
                title=f"{name}, {'zyx'[axis]} = {position_mm:.0f} mm".replace("-", "−"),
                edges=edges,
                spacing_mm=(row_mm, column_mm),
                hu=cut(case.hu),
                values=cut(values),
                targets=tuple((colours[name], cut(case.structures[name].mask)) for name in prescribed),
            )
        )
    return sections


def _outline_box(external: NDArray[np.bool_], slab: tuple[slice, slice, slice]) -> tuple[slice, slice, slice]:
    """Bounding box of the patient's outline within a slab; the slab itself where the patient is not in it."""
    if not external[slab].any():
        return slab
    z, y, x = (
        slice(part.start + side.start, part.start + side.stop)
        for part, side in zip(slab, bounding_box(external[slab]), strict=True)
    )
    return z, y, x


def _grown(box: tuple[slice, slice, slice], grid: VoxelGrid, margin_mm: float) -> tuple[slice, slice, slice]:
    """Widen a box on all sides, within the grid."""
    z, y, x = (
        slice(max(0, side.start - int(margin_mm / spacing)), min(voxels, side.stop + int(margin_mm / spacing)))
        for side, voxels, spacing in zip(box, grid.shape, grid.spacing_mm, strict=True)
    )
    return z, y, x


def _draw_section(axes: Axes, section: _Section, wash: _Wash) -> None:
    """Draw CT, coloured values and their lines, target contours, directions and a scale."""
    height_mm, width_mm = section.size_mm
    row_mm, column_mm = section.spacing_mm
    extent = (0.0, width_mm, height_mm, 0.0)
    x_mm = (np.arange(section.hu.shape[1]) + 0.5) * column_mm
    y_mm = (np.arange(section.hu.shape[0]) + 0.5) * row_mm
    low_hu, high_hu = HU_WINDOW
    axes.imshow(section.hu, "gray", vmin=low_hu, vmax=high_hu, extent=extent, interpolation="bilinear", aspect="auto")
    axes.imshow(section.values, wash.translucent(), wash.scale, extent=extent, interpolation="bilinear", aspect="auto")
    axes.autoscale(False)
    lines = [level for level in wash.lines if section.values.min() < level < section.values.max()]
    if lines:
        axes.contour(x_mm, y_mm, section.values, lines, cmap=wash.colour_map, norm=wash.scale, linewidths=0.8)
    for colour, mask in section.targets:
        if mask.any() and not mask.all():
            axes.contour(x_mm, y_mm, mask, [0.5], colors=["white"], linewidths=2.2)
            axes.contour(x_mm, y_mm, mask, [0.5], colors=[colour], linewidths=1.2)
    axes.set_axis_off()
    axes.set_title(section.title, fontsize=8, color=INK, loc="left", pad=4)
    places = (
        (0.02, 0.5, "left", "center"),
        (0.98, 0.5, "right", "center"),
        (0.5, 0.98, "center", "top"),
        (0.5, 0.02, "center", "bottom"),
    )
    halo = [Stroke(linewidth=2.0, foreground="black"), Normal()]
    for edge, (x, y, across, along) in zip(section.edges, places, strict=True):
        axes.text(
            x,
            y,
            edge,
            ha=across,
            va=along,
            transform=axes.transAxes,
            fontsize=8,
            color="white",
            weight="bold",
            path_effects=halo,
        )
    axes.plot(
        [0.03 * width_mm, 0.03 * width_mm + RULER_MM],
        [0.96 * height_mm] * 2,
        color="white",
        linewidth=1.6,
        path_effects=halo,
        solid_capstyle="butt",
    )


def _draw_colour_bar(axes: Axes, wash: _Wash) -> None:
    """Draw the scale, with the lines of the sections across it."""
    axes.figure.colorbar(ScalarMappable(wash.scale, wash.colour_map), cax=axes, label=wash.label)
    for level in wash.lines:
        axes.axhline(level, color="white", linewidth=1.0)
    axes.tick_params(labelsize=7, colors=MUTED, length=2)
    axes.yaxis.label.set(fontsize=8, color=INK)
    axes.spines[:].set_visible(False)
