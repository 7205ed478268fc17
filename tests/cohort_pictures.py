"""Draws a simulated cohort and judges its plans: `python -m tests.cohort_pictures COHORT DOCS [CASES …]`.

Reads the studies that `diffdp cohort rectum` wrote as any study is read, and writes rectum-cohort.md with its pictures.
Of folders of imported cases, such as those of a whole cohort, it says how many meet the goals.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from model.case import EXTERNAL, Case
from model.conditioning.prescription import resolve_prescription
from model.conditioning.rectum import SITE
from model.conditioning.site import match_structures
from model.dicom import StructureChoice, build_case, read_study
from model.dosimetry import homogeneity_index, structure_dvhs
from model.dosimetry.goals import GoalSet, Judged, find_goals, judge
from model.training.case_file import case_files, load_case
from service.wiring import SHIPPED_GOALS

WINDOW_HU = (-160, 240)
ISODOSES_PERCENT = (20, 40, 60, 80, 95, 105)
COLOURS = {"Bladder": "gold", "Bowel_Small": "lime", "Femur_Head_R": "white", "Femur_Head_L": "white"}
ROWS_ON_A_PAGE = 5
WIDTH_MM, DEPTH_MM = 440.0, 290.0

HEAD = """\
# A simulated rectum cohort

Made by `make cohort-pictures`: {patients} patients of `diffdp cohort rectum --seed 1`, read back from their DICOM
files. None is real. How they come about is in [rectum-cohort.md](../rectum-cohort.md).

## Dose and goals

Doses in Gy, volumes in percent; 50 Gy are prescribed to the PTV's median. Goals are those of
`model/conditioning/goals/rectum.toml`; a value in bold misses its goal. HI is (D2% − D98%) / D50%.

"""


LEGEND = f"""\
Transverse planes at the femoral heads and near the top of the target, a sagittal and a coronal plane. Red: PTV; yellow:
bladder; green: small bowel; white: femoral heads. Isodoses at {", ".join(map(str, ISODOSES_PERCENT))} %."""


def read(folder: Path) -> Case:
    """Read a study as the import does."""
    study = read_study(sorted(folder.glob("*.dcm")))
    match = match_structures(SITE, study.rois)
    assert study.plan is not None
    prescription, _ = resolve_prescription(
        match.targets,
        parameter_gy=None,
        parameter_fractions=None,
        plan_dose_gy=study.plan.target_dose_gy,
        plan_fractions=study.plan.fractions,
        plan_highest_gy=study.plan.highest_dose_gy,
    )
    choices = {m.name: StructureChoice(m.roi_number, m.kind) for m in match.structures.values()}
    return build_case(study, choices, prescription, with_reference=True)


def draw(axes: Sequence[Axes], case: Case) -> None:
    """Two transverse planes, a sagittal and a coronal one."""
    target = np.logical_or.reduce([case.structures[name].mask for name in case.prescription.dose_gy])
    heads = case.structures["Femur_Head_R"].mask | case.structures["Femur_Head_L"].mask
    middle = [round(float(k.mean())) for k in np.nonzero(target)]
    low = round(float(np.nonzero(heads)[0].mean()))
    high = round(float(np.quantile(np.nonzero(target)[0], 0.8)))
    y, x = (round(float(k.mean())) for k in np.nonzero(case.external)[1:])
    spacing = case.grid.spacing_mm
    rows = slice(y - round(DEPTH_MM / 2 / spacing[1]), y + round(DEPTH_MM / 2 / spacing[1]))
    columns = slice(x - round(WIDTH_MM / 2 / spacing[2]), x + round(WIDTH_MM / 2 / spacing[2]))
    upwards = slice(None, None, -1)
    planes = [
        ((low, rows, columns), spacing[1] / spacing[2]),
        ((high, rows, columns), spacing[1] / spacing[2]),
        ((upwards, rows, middle[2]), spacing[0] / spacing[1]),
        ((upwards, middle[1] - 5, columns), spacing[0] / spacing[2]),
    ]
    assert case.dose_gy is not None
    percent = 100 * case.dose_gy / case.prescription.highest_gy
    jet = mpl.colormaps["jet"](np.linspace(0, 1, 256))
    jet[:, 3] = 0.45
    for ax, (plane, aspect) in zip(axes, planes, strict=True):
        ax.imshow(case.hu[plane], cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1], aspect=aspect)
        wash = np.ma.masked_less(percent[plane], 10)
        ax.imshow(wash, cmap=ListedColormap(jet), vmin=0, vmax=108, aspect=aspect, interpolation="nearest")
        ax.contour(percent[plane], ISODOSES_PERCENT, cmap="jet", vmin=0, vmax=108, linewidths=0.7)
        for name, structure in case.structures.items():
            if name != EXTERNAL and structure.mask[plane].any():
                colour = COLOURS.get(name, "red")
                ax.contour(structure.mask[plane], [0.5], colors=colour, linewidths=1.4 if colour == "red" else 0.9)
        ax.axis("off")


def main(cohort: Path, out: Path, *cases: Path) -> None:
    """Write tables and pictures."""
    folders = sorted(path for path in cohort.iterdir() if path.is_dir())
    goals = find_goals((SHIPPED_GOALS,))[SITE.name]
    out.mkdir(parents=True, exist_ok=True)
    judged: list[list[Judged]] = []
    lines: list[str] = []
    pictures: list[str] = []
    for start in range(0, len(folders), ROWS_ON_A_PAGE):
        page = folders[start : start + ROWS_ON_A_PAGE]
        figure = Figure(figsize=(13, 2.75 * len(page)), layout="constrained")
        grid = figure.subplots(len(page), 4, squeeze=False, width_ratios=(WIDTH_MM, WIDTH_MM, DEPTH_MM, WIDTH_MM))
        for axes, folder in zip(grid, page, strict=True):
            case = read(folder)
            draw(axes, case)
            axes[0].set_title(folder.name, loc="left", fontsize=9)
            assert case.dose_gy is not None
            histograms = structure_dvhs(case, case.dose_gy, {})
            judged.append(judge(goals, histograms, case.prescription))
            (target,) = case.prescription.dose_gy
            hi = homogeneity_index(histograms[target])
            cells = [f"{histograms[target].volume_cc:.0f}", *(cell(j) for j in judged[-1]), f"{hi:.3f}"]
            lines.append(f"| {folder.name} | {' | '.join(cells)} |")
        name = f"rectum-cohort-{start // ROWS_ON_A_PAGE + 1}.png"
        figure.savefig(out / name, dpi=80)
        pictures.append(name)
    titles = [title(j) for j in judged[0]]
    met = [f"{sum(is_met(row[k]) for row in judged)} of {len(judged)}" for k in range(len(titles))]
    table = [
        f"| patient | PTV, cc | {' | '.join(titles)} | HI |",
        "|---" * (len(titles) + 3) + "|",
        *lines,
        f"| goal met | | {' | '.join(met)} | |",
    ]
    shown = [
        "## Pictures",
        LEGEND,
        *(f"![{name}]({name})" for name in pictures),
    ]
    if cases:
        table += ["", *table_of_all(goals, [file for folder in cases for file in case_files(folder)])]
    text = HEAD.format(patients=len(folders)) + "\n".join(table) + "\n\n" + "\n\n".join(shown) + "\n"
    (out / "rectum-cohort.md").write_text(text, encoding="utf-8")


def table_of_all(goals: GoalSet, files: Sequence[Path]) -> list[str]:
    """Lines that say how many of many patients meet each goal."""
    judged: list[list[Judged]] = []
    for file in files:
        case = load_case(file)
        assert case.dose_gy is not None
        judged.append(judge(goals, structure_dvhs(case, case.dose_gy, {}), case.prescription))
    lines = [
        f"All {len(files)} patients of the cohort, as imported:",
        "",
        "| goal | met | median | worst |",
        "|---|---|---|---|",
    ]
    for of_goal in zip(*judged, strict=True):
        values = [j.value for j in of_goal if j.value is not None]
        worst = max(values) if of_goal[0].goal.at_most else min(values)
        met = f"{sum(map(is_met, of_goal))} of {len(files)}"
        lines.append(f"| {title(of_goal[0])} | {met} | {np.median(values):.1f} | {worst:.1f} |")
    return lines


def title(judged: Judged) -> str:
    """Return a goal in few words."""
    goal = judged.goal
    limit = f"≤ {goal.at_most}" if goal.at_most else f"≥ {goal.at_least}"
    return f"{judged.structure} {goal.metric} {limit}"


def is_met(judged: Judged) -> bool:
    """Whether a dose meets a goal."""
    assert judged.value is not None
    return judged.value <= judged.limit if judged.goal.at_most else judged.value >= judged.limit


def cell(judged: Judged) -> str:
    """Value of a goal as it stands in the table."""
    text = f"{judged.value:.1f}"
    return text if is_met(judged) else f"**{text}**"


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
