"""Pictures of a report: DVH curves as SVG, dose on CT as JPEG.

Structures bear their numbers, isodose lines their percentages, so that nothing is told by colour alone. Drawn without
pyplot, whose list of open figures threads would share.
"""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import NDArray

from model.case import EXTERNAL, VoxelGrid
from model.case.grid import bounding_box
from service.reports.content import Report
from service.reports.evaluation import hottest_voxel
from service.reports.subject import Doses, GammaMap, Subject

T = TypeVar("T", bound=np.generic)

INK = "#1f2933"
MUTED = "#66727f"

HU_WINDOW = (-160.0, 240.0)
"""Soft tissue: level 40 HU, width 400 HU."""

ISODOSES_PERCENT = (20.0, 50.0, 70.0, 90.0, 95.0, 100.0, 107.0)
"""Of the normalisation dose."""

WASH_FROM = 0.1
"""Share of the normalisation dose below which the dose is not coloured."""

DIFFERENCE_FROM = 0.01
DIFFERENCE_LIMIT = 0.1
"""Differences, as shares of the normalisation dose, below which none is coloured and above which colours saturate."""

SPREAD_LIMIT = 0.05
"""Least upper end of the spread's scale, as a share of the normalisation dose."""

GAMMA_LIMIT = 2.0

MARGIN_MM = 8.0
"""Space around the patient's outline."""

BEYOND_TARGETS_MM = 60.0
"""How far coronal and sagittal sections reach above and below the targets."""

RULER_MM = 50.0

WIDTH_IN = 7.3
DPI = 180.0
GAP_IN, TITLE_IN, BAR_IN = 0.07, 0.22, 0.75
MOST_BAR_IN = 3.2
MOST_HEIGHT_IN = 3.9
"""So that two pictures fit on a page."""

LABEL_GAP_IN = 0.1
"""Least distance of two labels at a colour bar."""

TAG_CANDIDATES = 40
"""Points of an outline or a curve at which its number may stand."""

DVH_SIZE_IN = (7.3, 3.65)


@dataclass(frozen=True)
class Picture:
    """A picture with its title and what it shows; its group is the section of the report that it belongs to."""

    group: Literal["dose", "comparison", "spread"]
    title: str
    caption: str
    jpeg: bytes


def draw_dvh(report: Report, colours: Mapping[str, str]) -> str:
    """Draw the cumulative DVHs of all structures but the External as an ``<svg>`` element.

    The dose is solid, the reference dashed; bands show the spread.
    """
    figure = Figure(figsize=DVH_SIZE_IN, layout="constrained")
    axes = figure.add_subplot()
    highest_gy = report.normalisation.dose_gy or 1.0
    for name, level_gy in report.prescription.dose_gy.items() if report.prescription else ():
        axes.axvline(level_gy, color=colours[name], linewidth=0.9, linestyle=(0, (1, 2)), zorder=2.5)
    curves = []
    # Targets are drawn last, on top
    for structure in reversed(report.structures):
        if structure.kind == "external" or structure.dose is None:
            continue
        colour = colours[structure.name]
        width = 2.0 if structure.kind == "target" else 1.3
        if structure.band:
            band = structure.band
            axes.fill_between(
                band.dose_gy, band.lower_percent, band.upper_percent, color=colour, alpha=0.22, linewidth=0, zorder=1.5
            )
        if structure.reference:
            curve = structure.reference.dvh
            axes.plot(curve.dose_gy, curve.volume_percent, color=colour, linewidth=0.7 * width, linestyle=(0, (4, 2)))
            highest_gy = max(highest_gy, structure.reference.metrics.max_gy or 0.0)
        curve = structure.dose.dvh
        axes.plot(curve.dose_gy, curve.volume_percent, color=colour, linewidth=width)
        highest_gy = max(highest_gy, structure.dose.metrics.max_gy or 0.0)
        curves.append((str(structure.number), colour, np.column_stack([curve.dose_gy, curve.volume_percent])))
    axes.set(xlim=(0, 1.04 * highest_gy), ylim=(0, 102), xlabel="Dose (Gy)", ylabel="Volume (%)")
    axes.set_yticks(range(0, 101, 10))
    axes.grid(color="#e3e8ee", linewidth=0.6)
    axes.tick_params(colors=MUTED, labelsize=8, length=0)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=INK, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#9aa5b1")
    figure.canvas.draw()
    _tag_curves(axes, curves)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def draw_pictures(
    subject: Subject, doses: Doses, report: Report, gamma: GammaMap | None, colours: Mapping[str, str]
) -> tuple[Picture, ...]:
    """Draw the sections of a report.

    The dose through the centre of the highest prescribed target, else of the largest one, and through the hottest
    point; the comparison with the reference, side by side; the spread.

    Raises
    ------
    ValueError
        If the grid is oblique.
    """
    hottest = _in_canonical(subject.grid, hottest_voxel(subject, doses.dose_gy))
    target = _chosen_target(subject)
    numbers = {structure.name: str(structure.number) for structure in report.structures}
    style = _Style(report, colours, numbers)
    wash = style.dose_wash(doses)
    pictures = []
    planes = _planes(subject, doses.dose_gy, target[1] if target else hottest, style)
    if target:
        name = target[0]
        caption = f"Sections through the centre of {name}. {style.caption()}"
        title = f"Dose through the centre of {name}"
        pictures.append(Picture("dose", title, caption, _draw_sections(subject, planes, doses.dose_gy, wash, style)))
    through = _planes(subject, doses.dose_gy, hottest, style)
    caption = "Sections through the hottest point, marked +." + ("" if target else f" {style.caption()}")
    jpeg = _draw_sections(subject, through, doses.dose_gy, wash, style, mark=True)
    pictures.append(Picture("dose", "Dose through the hottest point", caption, jpeg))
    if doses.reference_gy is not None and gamma is not None:
        limit_gy = DIFFERENCE_LIMIT * style.full_gy
        clear_gy = DIFFERENCE_FROM * style.full_gy
        difference = _Wash(
            "Dose − reference (Gy)",
            "RdBu_r",
            Normalize(-limit_gy, limit_gy),
            clear=(-clear_gy, clear_gy),
            extend="both",
        )
        agreement = _Wash("Gamma", "YlOrRd", Normalize(1.0, GAMMA_LIMIT), clear=(-np.inf, 1.0), extend="max")
        columns = (
            ("Dose", doses.dose_gy, wash),
            ("Reference", doses.reference_gy, wash),
            ("Dose − reference", doses.dose_gy - doses.reference_gy, difference),
            ("Gamma", gamma.values, agreement),
        )
        caption = (
            f"Reference: {doses.reference_name}. Differences below {clear_gy:.2f} Gy are not coloured; gamma is "
            "where it fails, above 1."
        )
        jpeg = _draw_grid(subject, planes, columns, style)
        pictures.append(Picture("comparison", "Dose and reference side by side", caption, jpeg))
    if doses.spread_gy is not None:
        top_gy = max(SPREAD_LIMIT * style.full_gy, float(np.percentile(doses.spread_gy[subject.external], 99.9)))
        spread = _Wash("Spread (Gy)", "viridis", Normalize(0.0, top_gy), clear=(-np.inf, 0.0), extend="max")
        title, meaning = "Spread between samples", "between the samples"
        if doses.spread_is_calibrated:
            title, meaning = "Expected error", "of the dose's error, as the model expects it"
        caption = f"Standard deviation {meaning}; the same sections as above."
        jpeg = _draw_sections(subject, planes, doses.spread_gy, spread, style)
        pictures.append(Picture("spread", title, caption, jpeg))
    return tuple(pictures)


@dataclass(frozen=True)
class _Wash:
    """How values are coloured on the CT; those within ``clear`` are not."""

    label: str
    colour_map: str
    scale: Normalize
    clear: tuple[float, float]
    lines: tuple[float, ...] = ()
    full: float | None = None
    """The value of which lines are percentages, if they are."""
    extend: str = "neither"

    def translucent(self) -> Colormap:
        """Colour map that lets the CT shine through, wholly where values are clear or not a number."""
        shares = np.linspace(0.0, 1.0, 512)
        values = np.asarray(self.scale.inverse(shares))
        rgba = colormaps[self.colour_map](shares)
        rgba[:, 3] = np.where((values >= self.clear[0]) & (values <= self.clear[1]), 0.0, 0.45)
        return ListedColormap(rgba).with_extremes(bad=(0, 0, 0, 0))


@dataclass(frozen=True)
class _Plane:
    """A plane through the patient, cropped.

    Parameters
    ----------
    title
        Which plane, and where it lies.
    edges
        Patient directions at the picture's left, right, top and bottom.
    spacing_mm
        Between rows and between columns.
    crop
        Of a canonical array; one entry is the plane's index.
    upright
        Whether the first row of the crop belongs on top.
    centre
        (row, column) in the picture of the point that the plane was laid through.
    shape
        Rows and columns.
    """

    title: str
    edges: tuple[str, str, str, str]
    spacing_mm: tuple[float, float]
    crop: tuple[slice | int, ...]
    upright: bool
    centre: tuple[float, float]
    shape: tuple[int, int]

    def cut(self, grid: VoxelGrid, array: NDArray[T]) -> NDArray[T]:
        """Return the plane's part of an array on the subject's grid, its first row on top."""
        plane = grid.to_canonical(array)[self.crop]
        return plane if self.upright else plane[::-1]

    @property
    def size_mm(self) -> tuple[float, float]:
        """Height and width."""
        return self.shape[0] * self.spacing_mm[0], self.shape[1] * self.spacing_mm[1]


@dataclass(frozen=True)
class _Style:
    """What pictures of one report have in common."""

    report: Report
    colours: Mapping[str, str]
    numbers: Mapping[str, str]

    @property
    def full_gy(self) -> float:
        """The dose that is 100 %."""
        return self.report.normalisation.dose_gy or 1.0

    def isodoses_gy(self) -> tuple[float, ...]:
        """Doses whose lines are drawn: `ISODOSES_PERCENT`, and 95 % of each lower prescription."""
        lower = self.report.prescription.dose_gy.values() if self.report.prescription else ()
        doses = {share / 100.0 * self.full_gy for share in ISODOSES_PERCENT} | {0.95 * x for x in lower}
        if not lower:
            # The greatest dose is a point
            doses = {dose_gy for dose_gy in doses if dose_gy < self.full_gy}
        kept: list[float] = []
        # A line that another one covers tells nothing; those of prescriptions come first
        for dose_gy in sorted(doses, key=lambda x: all(abs(x - 0.95 * p) > 1e-6 for p in lower)):
            if all(abs(dose_gy - other) > 0.03 * self.full_gy for other in kept):
                kept.append(dose_gy)
        return tuple(sorted(kept))

    def dose_wash(self, doses: Doses) -> _Wash:
        """How doses are coloured, the reference's as well."""
        arrays = [doses.dose_gy] + ([] if doses.reference_gy is None else [doses.reference_gy])
        least_gy = (1.1 if self.report.prescription else 1.0) * self.full_gy
        highest_gy = max(least_gy, *(float(array.max()) for array in arrays))
        return _Wash(
            label="Dose",
            colour_map="turbo",
            scale=Normalize(0.0, highest_gy),
            clear=(-np.inf, WASH_FROM * self.full_gy),
            lines=self.isodoses_gy(),
            full=self.full_gy,
        )

    def caption(self) -> str:
        """Say what lines mean."""
        full = f"100 % is the {self.report.normalisation.meaning}, {self.full_gy:.2f} Gy"
        lower = " Among the isodoses: 95 % of every prescription." if self.report.prescription else ""
        return (
            f"Outlines bear the structures' numbers, isodoses percentages; {full}.{lower} The bar is {RULER_MM:.0f} mm."
        )


def _chosen_target(subject: Subject) -> tuple[str, tuple[int, int, int]] | None:
    """Name and centroid, in canonical indices, of the highest prescribed target, else of the largest one."""
    filled = [s for s in subject.structures.values() if s.kind == "target" and s.mask.any()]
    if not filled:
        return None
    prescribed = subject.prescribed_gy
    chosen = max(filled, key=lambda s: (prescribed.get(s.name, 0.0), np.count_nonzero(s.mask)))
    indices = np.nonzero(subject.grid.to_canonical(chosen.mask))
    z, y, x = (int(np.rint(axis.mean())) for axis in indices)
    return chosen.name, (z, y, x)


def _in_canonical(grid: VoxelGrid, index: tuple[int, int, int]) -> tuple[int, int, int]:
    order, flipped = grid.canonical_steps()
    z, y, x = (
        grid.shape[axis] - 1 - index[axis] if flip else index[axis] for axis, flip in zip(order, flipped, strict=True)
    )
    return z, y, x


def _planes(
    subject: Subject, dose_gy: NDArray[np.floating], point: tuple[int, int, int], style: _Style
) -> tuple[_Plane, ...]:
    """Axial, coronal and sagittal planes through a point in canonical indices."""
    grid = subject.grid.canonical()
    treated = np.zeros(subject.grid.shape, bool)
    for structure in subject.structures.values():
        if structure.kind == "target":
            treated |= structure.mask
    if not treated.any():
        treated = dose_gy >= 0.5 * style.full_gy
    treated = subject.grid.to_canonical(treated).copy()
    treated[point] = True
    box = _grown(bounding_box(treated), grid, BEYOND_TARGETS_MM)
    external = subject.grid.to_canonical(subject.external)
    planes = []
    for axis, (name, edges) in enumerate(
        (("Axial", ("R", "L", "A", "P")), ("Coronal", ("R", "L", "S", "I")), ("Sagittal", ("A", "P", "S", "I")))
    ):
        slab = [box[0], slice(0, grid.shape[1]), slice(0, grid.shape[2])]
        slab[axis] = slice(point[axis], point[axis] + 1)
        sides = _grown(_outline_box(external, (slab[0], slab[1], slab[2]), treated), grid, MARGIN_MM)
        first, second = (side for k, side in enumerate(sides) if k != axis)
        row, column = (point[k] - sides[k].start for k in range(3) if k != axis)
        # Rows of coronal and sagittal sections are slices, which run to the head: upwards in the picture
        upright = axis == 0
        shape = (first.stop - first.start, second.stop - second.start)
        row_mm, column_mm = (spacing for k, spacing in enumerate(grid.spacing_mm) if k != axis)
        position_mm = grid.origin_mm[2 - axis] + point[axis] * grid.spacing_mm[axis]
        planes.append(
            _Plane(
                title=f"{name}, {'zyx'[axis]} = {position_mm:.0f} mm".replace("-", "−"),
                edges=edges,
                spacing_mm=(row_mm, column_mm),
                crop=tuple(point[axis] if k == axis else side for k, side in enumerate(sides)),
                upright=upright,
                centre=(row if upright else shape[0] - 1 - row, column),
                shape=shape,
            )
        )
    return tuple(planes)


def _outline_box(
    external: NDArray[np.bool_], slab: tuple[slice, slice, slice], treated: NDArray[np.bool_]
) -> tuple[slice, slice, slice]:
    """Bounding box of the patient's outline and what is treated within a slab."""
    z, y, x = (
        slice(part.start + side.start, part.start + side.stop)
        for part, side in zip(slab, bounding_box(external[slab] | treated[slab]), strict=True)
    )
    return z, y, x


def _grown(box: tuple[slice, slice, slice], grid: VoxelGrid, margin_mm: float) -> tuple[slice, slice, slice]:
    """Widen a box on all sides, within the grid."""
    z, y, x = (
        slice(max(0, side.start - int(margin_mm / spacing)), min(voxels, side.stop + int(margin_mm / spacing)))
        for side, voxels, spacing in zip(box, grid.shape, grid.spacing_mm, strict=True)
    )
    return z, y, x


@dataclass(frozen=True)
class _Places:
    """Where panels lie in a picture: left and top of each, and its width, in inches from the top left corner."""

    panels: tuple[tuple[float, float, float], ...]
    width_in: float
    height_in: float
    smallest: float
    """Area of the smallest panel."""


def _in_a_row(planes: Sequence[_Plane], width_in: float) -> _Places:
    """Place panels of equal height side by side."""
    shapes = [plane.size_mm[1] / plane.size_mm[0] for plane in planes]
    panel_in = (width_in - (len(planes) - 1) * GAP_IN) / sum(shapes)
    lefts = np.cumsum([0.0, *(shape * panel_in + GAP_IN for shape in shapes)])
    panels = tuple((float(left), TITLE_IN, shape * panel_in) for left, shape in zip(lefts, shapes, strict=False))
    return _Places(panels, width_in, TITLE_IN + panel_in, min(shapes) * panel_in**2)


def _first_large(planes: Sequence[_Plane], width_in: float) -> _Places:
    """Place the first panel on the left, and as high, the others on the right, one above the other."""
    first, *others = [plane.size_mm[0] / plane.size_mm[1] for plane in planes]
    between = (len(others) - 1) * (TITLE_IN + GAP_IN)
    right_in = max(0.1, ((width_in - GAP_IN) * first - between) / (first + sum(others)))
    left_in = width_in - GAP_IN - right_in
    panels = [(0.0, TITLE_IN, left_in)]
    top = TITLE_IN
    for shape in others:
        panels.append((left_in + GAP_IN, top, right_in))
        top += shape * right_in + GAP_IN + TITLE_IN
    smallest = min(first * left_in**2, min(others) * right_in**2)
    return _Places(tuple(panels), width_in, TITLE_IN + first * left_in, smallest)


def _fitting(place: Callable[[Sequence[_Plane], float], _Places], planes: Sequence[_Plane]) -> _Places:
    """Place panels as wide as the page, or as narrow as it takes for the picture not to be too high."""
    width_in = WIDTH_IN - BAR_IN - GAP_IN
    places = place(planes, width_in)
    while places.height_in > MOST_HEIGHT_IN:
        width_in *= 0.98
        places = place(planes, width_in)
    return places


def _draw_sections(
    subject: Subject,
    planes: Sequence[_Plane],
    values: NDArray[np.floating],
    wash: _Wash,
    style: _Style,
    *,
    mark: bool = False,
) -> bytes:
    """Draw values on the CT in three panels, as large as fits, and a colour bar."""
    places = max(_fitting(_in_a_row, planes), _fitting(_first_large, planes), key=lambda places: places.smallest)
    width_in = places.width_in
    figure = Figure(figsize=(WIDTH_IN, places.height_in), dpi=DPI)

    def add(left: float, top: float, width: float, height: float) -> Axes:
        """Add axes at a place in inches from the top left corner."""
        bottom = places.height_in - top - height
        return figure.add_axes(
            (left / WIDTH_IN, bottom / places.height_in, width / WIDTH_IN, height / places.height_in)
        )

    for plane, (left, top, width) in zip(planes, places.panels, strict=True):
        axes = add(left, top, width, width * plane.size_mm[0] / plane.size_mm[1])
        axes.set_title(plane.title, fontsize=8, color=INK, loc="left", pad=4)
        _draw_plane(axes, subject, plane, values, wash, style, mark=mark)
    bar_in = min(places.height_in - TITLE_IN, MOST_BAR_IN)
    _draw_colour_bar(add(width_in + GAP_IN + 0.3, TITLE_IN, 0.1, bar_in), wash, vertical=True, length_in=bar_in)
    return _jpeg(figure)


def _draw_grid(
    subject: Subject,
    planes: Sequence[_Plane],
    columns: Sequence[tuple[str, NDArray[np.floating], _Wash]],
    style: _Style,
) -> bytes:
    """Draw several arrays side by side, a row per plane, a colour bar beneath each column."""
    bar_in = 0.42
    width_in = (WIDTH_IN - (len(columns) - 1) * GAP_IN) / len(columns)
    heights_in = [width_in * plane.size_mm[0] / plane.size_mm[1] for plane in planes]
    height_in = sum(heights_in) + TITLE_IN + (len(planes) - 1) * GAP_IN + bar_in
    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI)
    for k, (title, values, wash) in enumerate(columns):
        left = k * (width_in + GAP_IN) / WIDTH_IN
        top_in = height_in - TITLE_IN
        for plane, panel_in in zip(planes, heights_in, strict=True):
            place = (left, (top_in - panel_in) / height_in, width_in / WIDTH_IN, panel_in / height_in)
            axes = figure.add_axes(place)
            if plane is planes[0]:
                axes.set_title(title, fontsize=8, color=INK, loc="left", pad=4)
            _draw_plane(axes, subject, plane, values, wash, style, small=True)
            top_in -= panel_in + GAP_IN
        place = (left + 0.05 * width_in / WIDTH_IN, 0.3 / height_in, 0.9 * width_in / WIDTH_IN, 0.07 / height_in)
        _draw_colour_bar(figure.add_axes(place), wash, vertical=False, length_in=0.9 * width_in)
    return _jpeg(figure)


def _jpeg(figure: Figure) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format="jpeg", dpi="figure", pil_kwargs={"quality": 85, "subsampling": 0})
    return image.getvalue()


def _draw_plane(
    axes: Axes,
    subject: Subject,
    plane: _Plane,
    values: NDArray[np.floating],
    wash: _Wash,
    style: _Style,
    *,
    mark: bool = False,
    small: bool = False,
) -> None:
    """Draw CT, coloured values and their lines, outlines of structures, directions and a scale."""
    height_mm, width_mm = plane.size_mm
    row_mm, column_mm = plane.spacing_mm
    extent = (0.0, width_mm, height_mm, 0.0)
    x_mm = (np.arange(plane.shape[1]) + 0.5) * column_mm
    y_mm = (np.arange(plane.shape[0]) + 0.5) * row_mm
    low_hu, high_hu = HU_WINDOW
    hu, cut = plane.cut(subject.grid, subject.hu), plane.cut(subject.grid, values)
    axes.imshow(hu, "gray", vmin=low_hu, vmax=high_hu, extent=extent, interpolation="bilinear", aspect="auto")
    # What is not a number would spread
    smooth = "bilinear" if np.isfinite(cut).all() else "nearest"
    axes.imshow(cut, wash.translucent(), wash.scale, extent=extent, interpolation=smooth, aspect="auto")
    axes.autoscale(False)
    finite = cut[np.isfinite(cut)]
    contourable = min(cut.shape) > 1  # a line needs voxels on both sides
    lines = [level for level in wash.lines if contourable and finite.size and finite.min() < level < finite.max()]
    if lines:
        contours = axes.contour(
            x_mm, y_mm, cut, lines, cmap=wash.colour_map, norm=wash.scale, linewidths=0.6 if small else 0.8
        )
        if wash.full and not small:
            _label_isodoses(axes, contours, wash.full)
    tags: list[tuple[str, str, NDArray[np.floating]]] = []
    # Targets are drawn last, on top
    for name in sorted(style.numbers, key=lambda name: -int(style.numbers[name])):
        mask = plane.cut(subject.grid, subject.structures[name].mask)
        if contourable and mask.any() and not mask.all():
            colour = style.colours[name]
            width = 0.6 if name == EXTERNAL else 1.0 if small else 1.1
            outline = axes.contour(x_mm, y_mm, mask, [0.5], colors=[colour], linewidths=width)
            if name != EXTERNAL:
                outline.set_path_effects([Stroke(linewidth=width + 0.9, foreground="white"), Normal()])
            if name != EXTERNAL and not small:
                longest = max(outline.allsegs[0], key=len)
                tags.append((style.numbers[name], colour, np.asarray(longest)))
    _place_tags(axes, tags, size=5.5)
    if mark:
        row, column = plane.centre
        halo = [Stroke(linewidth=2.2, foreground="black"), Normal()]
        place = ((column + 0.5) * column_mm, (row + 0.5) * row_mm)
        axes.plot(*place, "+", color="white", markersize=9, markeredgewidth=1.1, path_effects=halo)
    axes.set_axis_off()
    _draw_directions(axes, plane, size=6 if small else 8)


def _draw_directions(axes: Axes, plane: _Plane, size: float) -> None:
    """Write the patient's directions at the edges, and draw a ruler."""
    height_mm, width_mm = plane.size_mm
    places = (
        (0.02, 0.5, "left", "center"),
        (0.98, 0.5, "right", "center"),
        (0.5, 0.98, "center", "top"),
        (0.5, 0.02, "center", "bottom"),
    )
    halo = [Stroke(linewidth=2.0, foreground="black"), Normal()]
    for edge, (x, y, across, along) in zip(plane.edges, places, strict=True):
        axes.text(
            x,
            y,
            edge,
            ha=across,
            va=along,
            transform=axes.transAxes,
            fontsize=size,
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


def _label_isodoses(axes: Axes, contours: ContourSet, full: float) -> None:
    """Write percentages on isodose lines."""
    labels = axes.clabel(
        contours,
        fmt=lambda level: _percent(level, full),
        fontsize=5.5,
        inline_spacing=1,
        colors="white",
        zorder=4,
    )
    for label in labels:
        label.set(path_effects=[Stroke(linewidth=1.4, foreground="black"), Normal()], clip_on=True)


def _percent(dose: float, full: float) -> str:
    """Write a dose as a percentage: 95, or 85.5."""
    return f"{round(100 * dose / full, 1):g}"


def _draw_colour_bar(axes: Axes, wash: _Wash, *, vertical: bool, length_in: float) -> None:
    """Draw the scale, with the lines of the sections across it."""
    bar = axes.figure.colorbar(
        ScalarMappable(wash.scale, wash.colour_map),
        cax=axes,
        orientation="vertical" if vertical else "horizontal",
        extend=wash.extend,
    )
    axes.tick_params(labelsize=6.5 if vertical else 6, colors=INK, length=2, pad=1.5)
    axes.spines[:].set_visible(False)
    for level in wash.lines:
        (axes.axhline if vertical else axes.axvline)(level, color="white", linewidth=0.8)
    if not (wash.full and vertical):
        bar.set_label(f"{wash.label} (Gy)" if wash.full else wash.label, fontsize=7, color=INK, labelpad=1)
        return
    axes.set_title("%     Gy", fontsize=7, color=INK, pad=4)
    span = float(wash.scale.vmax or 1.0)
    labelled: list[float] = []
    for level in wash.lines:
        if all(abs(level - other) / span * length_in >= LABEL_GAP_IN for other in labelled):
            labelled.append(level)
            for place, across, text in (
                (-0.4, "right", _percent(level, wash.full)),
                (1.4, "left", f"{level:.1f}"),
            ):
                axes.text(
                    place,
                    level / span,
                    text,
                    ha=across,
                    va="center",
                    fontsize=6.5,
                    color=INK,
                    transform=axes.transAxes,
                )
    bar.set_ticks([])


def _tag_curves(axes: Axes, curves: Sequence[tuple[str, str, NDArray[np.floating]]]) -> None:
    """Put its number on each curve, where it is far from other curves' numbers and other curves."""
    # Interpolated, so that a steep curve has as many places as a flat one
    heights = np.linspace(6, 94, TAG_CANDIDATES)
    even = [
        (text, colour, np.column_stack([np.interp(heights, points[::-1, 1], points[::-1, 0]), heights]))
        for text, colour, points in curves
    ]
    _place_tags(axes, even, size=6.5, apart=True)


def _place_tags(
    axes: Axes, tags: Iterable[tuple[str, str, NDArray[np.floating]]], *, size: float, apart: bool = False
) -> None:
    """Write numbers on lines, each at the one of its line's points that is farthest from what is already there.

    Parameters
    ----------
    apart
        Whether to keep away from the other lines as well.
    """
    lines = [(text, colour, points, axes.transData.transform(points)) for text, colour, points in tags]
    placed = [np.full((1, 2), -1e6)]
    corner, opposite = axes.transAxes.transform([(0, 0), (1, 1)])
    for text, colour, points, on_screen in lines:
        step = max(1, len(points) // TAG_CANDIDATES)
        candidates, places = points[::step], on_screen[::step]
        inside = ((places > corner + 8) & (places < opposite - 8)).all(axis=1)
        if not inside.any():
            continue
        candidates, places = candidates[inside], places[inside]
        distance = _distances(places, np.concatenate(placed))
        if apart:
            others = [other for name, _, _, other in lines if name != text]
            if others:
                distance = np.minimum(distance, 4 * _distances(places, np.concatenate(others)))
        best = int(np.argmax(distance))
        placed.append(places[best : best + 1])
        axes.text(
            candidates[best, 0],
            candidates[best, 1],
            text,
            ha="center",
            va="center",
            fontsize=size,
            color="white",
            weight="bold",
            zorder=5,
            bbox={"boxstyle": "round,pad=0.18", "facecolor": colour, "edgecolor": "white", "linewidth": 0.6},
        )


def _distances(points: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.floating]:
    """(points,) distance of each to the nearest of the others."""
    return np.asarray(np.sqrt(((points[:, None] - others[None]) ** 2).sum(axis=2)).min(axis=1))
