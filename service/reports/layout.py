"""A report as texts in order: what HTML and PDF show, so that both show the same.

Numbers are written with the decimals to which `service.reports.content` has rounded them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.reports.content import (
    CC,
    GY,
    INDEX,
    PERCENT,
    SIMULATED,
    Goals,
    PredictionSummary,
    Report,
    ReportMetadata,
    StructureReport,
)

TARGET_COLUMNS = (
    ("D98%", "d98_gy", GY),
    ("D95%", "d95_gy", GY),
    ("D50%", "d50_gy", GY),
    ("D2%", "d2_gy", GY),
    ("D0.1cc", "d0_1cc_gy", GY),
    ("Dmean", "mean_gy", GY),
    ("Dmin", "min_gy", GY),
    ("Dmax", "max_gy", GY),
    ("V95%", "v95_percent", PERCENT),
    ("V107%", "v107_percent", PERCENT),
    ("HI", "homogeneity_index", INDEX),
    ("CI", "conformity_index", INDEX),
)
"""Heading, field of `DoseMetrics` and decimals; doses in Gy."""

ORGAN_COLUMNS = (
    ("Dmean", "mean_gy", GY),
    ("Dmax", "max_gy", GY),
    ("D0.1cc", "d0_1cc_gy", GY),
    ("D2cc", "d2cc_gy", GY),
    ("D2%", "d2_gy", GY),
    ("D50%", "d50_gy", GY),
    ("D95%", "d95_gy", GY),
    ("D98%", "d98_gy", GY),
    ("Dmin", "min_gy", GY),
)

SOURCES = {
    "plan": "the study's plan",
    "structure-name": "the names of the structures",
    "parameter": "a parameter of the request",
    "data-set": "the data set",
}

USES = {"target": "target", "oar": "organ at risk", "external": "outline of the patient"}


@dataclass(frozen=True)
class Fact:
    """A label and what is to be said."""

    label: str
    text: str


@dataclass(frozen=True)
class Cell:
    """A figure and, in a comparison, its difference."""

    value: str
    difference: str = ""


@dataclass(frozen=True)
class Row:
    """One structure of a table, by number, colour and name; `note` is smaller print beneath the name."""

    number: str
    colour: str
    name: str
    note: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """Headings after the structure's, and rows."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    hint: str


@dataclass(frozen=True)
class Tile:
    """A target at a glance."""

    number: str
    colour: str
    name: str
    prescription: str
    figures: tuple[Fact, ...]


@dataclass(frozen=True)
class GoalRow:
    """A goal; `state` is met, missed or open."""

    structure: str
    goal: str
    value: str
    reference: str
    state: str
    verdict: str
    meaning: str
    source: str


@dataclass(frozen=True)
class Key:
    """A structure in the key of the pictures."""

    number: str
    colour: str
    name: str
    is_target: bool


@dataclass(frozen=True)
class Note:
    """Something to read first."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """All texts of a report."""

    title: str
    subtitle: str
    disclaimer: str
    facts: tuple[Fact, ...]
    notes: tuple[Note, ...]
    tiles: tuple[Tile, ...]
    goals: tuple[GoalRow, ...]
    goals_title: str
    goals_hint: str
    compared: bool
    dvh_caption: str
    key: tuple[Key, ...]
    tables: tuple[Table, ...]
    comparison: tuple[Fact, ...]
    mapping: tuple[Row, ...]
    mapping_hint: str
    model: tuple[Fact, ...]
    limits: tuple[str, ...]
    definitions: tuple[str, ...]
    identifiers: tuple[Fact, ...]


def lay_out(report: Report, colours: Mapping[str, str]) -> Layout:
    """Write a report's texts.

    Parameters
    ----------
    colours
        Colour of every structure by name, in CSS notation.
    """
    metadata, prediction = report.metadata, report.metadata.prediction
    targets = [s for s in report.structures if s.kind == "target"]
    others = [s for s in report.structures if s.kind != "target"]
    compared = report.comparison is not None
    signs = " Small figures: dose minus reference." if compared else ""
    target_columns = _used(targets, TARGET_COLUMNS)
    tables = []
    if targets:
        title = "Dose to targets"
        prescribed = any(target.prescription_gy is not None for target in targets)
        hint = f"Doses in Gy{', V95% and V107% in percent of the volume' if prescribed else ''}.{signs}"
        tables.append(_metrics_table(title, targets, target_columns, colours, hint, prescribed=prescribed))
    if others:
        title = "Dose to organs at risk and External"
        tables.append(_metrics_table(title, others, ORGAN_COLUMNS, colours, f"Doses in Gy.{signs}", prescribed=False))
    tables.append(_volume_table(report.structures, colours, f"In percent of the structure's volume.{signs}"))
    spread = any(s.mean_spread_gy is not None for s in report.structures)
    caption = ["Numbers on the curves as in the key."]
    if compared:
        caption.append("Solid: dose; dashed: reference.")
    if spread:
        caption.append("Bands: one standard deviation between the samples less or more in every voxel.")
    if report.prescription:
        caption.append("Vertical lines: prescribed doses.")
    return Layout(
        title="Dose prediction report" if metadata.predicted else "Dose report",
        subtitle=_subtitle(metadata),
        disclaimer=report.disclaimer,
        facts=_facts(report),
        notes=_notes(metadata),
        tiles=_tiles(targets, colours),
        goals=_goal_rows(report.goals),
        goals_title=f"Clinical goals, {report.goals.site}" if report.goals else "",
        goals_hint=_goals_hint(report.goals),
        compared=compared,
        dvh_caption=" ".join(caption),
        key=tuple(Key(str(s.number), colours[s.name], s.name, s.kind == "target") for s in report.structures if s.dose),
        tables=tuple(tables),
        comparison=_comparison(report),
        mapping=tuple(_mapping_row(s, colours) for s in report.structures),
        mapping_hint=_mapping_hint(metadata),
        model=_model(prediction) if prediction else (),
        limits=prediction.model.limits if prediction else (),
        definitions=report.definitions,
        identifiers=_identifiers(metadata),
    )


def number(value: float | None, decimals: int) -> str:
    """Write with fixed decimals and a true minus sign; a dash for what is undefined."""
    return "–" if value is None else f"{value:z.{decimals}f}".replace("-", "−")


def signed(value: float | None, decimals: int) -> str:
    """Write a difference with its sign; nothing for what is undefined."""
    if value is None:
        return ""
    return f"{value:+.{decimals}f}".replace("-", "−") if round(value, decimals) else number(0.0, decimals)


def _subtitle(metadata: ReportMetadata) -> str:
    made = f"{metadata.created_at:%d %B %Y, %H:%M %Z}".strip()
    return f"{made} · job {metadata.job_id}" if metadata.job_id else made


def _used(
    structures: Sequence[StructureReport], columns: Sequence[tuple[str, str, int]]
) -> tuple[tuple[str, str, int], ...]:
    """Columns without those that are empty for all, as V95% and CI are where nothing is prescribed."""
    metrics = [s.dose.metrics for s in structures if s.dose]
    return tuple(column for column in columns if any(getattr(m, column[1]) is not None for m in metrics))


def _facts(report: Report) -> tuple[Fact, ...]:
    metadata, prescription = report.metadata, report.prescription
    slices, rows, columns = metadata.study.ct_voxels
    spacing = " × ".join(f"{step:.3g}" for step in metadata.study.ct_spacing_mm)
    facts = [Fact("Study", metadata.study.study_instance_uid or "without identifier")]
    if prescription is None:
        facts.append(Fact("Prescription", "not known; 100 % is the greatest dose"))
    else:
        doses = ", ".join(
            f"{name} {dose_gy:g} Gy" for name, dose_gy in sorted(prescription.dose_gy.items(), key=lambda kv: -kv[1])
        )
        fractions = f" in {prescription.fractions} fractions" if prescription.fractions else ""
        facts.append(Fact("Prescription", f"{doses}{fractions}; from {SOURCES[prescription.source]}"))
    if metadata.prediction:
        model = metadata.prediction.model
        facts.append(Fact("Model", f"{model.name} {model.version}, {model.site}; trained on {model.training_data}"))
    if report.comparison:
        comparison = report.comparison
        facts.append(
            Fact(
                "Reference",
                f"{comparison.reference}; mean absolute difference "
                f"{number(comparison.mean_absolute_difference_gy, GY)} Gy, gamma ≤ 1 "
                f"({comparison.gamma.dose_percent:g} %, {comparison.gamma.distance_mm:g} mm) in "
                f"{number(comparison.gamma.passing_percent, PERCENT)} %",
            )
        )
    facts.append(Fact("CT", f"{slices} slices of {rows} × {columns}, {spacing} mm"))
    x, y, z = (f"{position:.1f}".replace("-", "−") for position in report.hottest_point.position_mm)
    hottest = number(report.hottest_point.dose_gy, GY)
    facts.append(Fact("Hottest point", f"{hottest} Gy at x {x}, y {y}, z {z} mm (LPS)"))
    return tuple(facts)


def _notes(metadata: ReportMetadata) -> tuple[Note, ...]:
    notes = []
    if metadata.simulated_training_data:
        notes.append(Note("Simulated data", (SIMULATED,)))
    if metadata.warnings:
        notes.append(Note("Warning" if len(metadata.warnings) == 1 else "Warnings", metadata.warnings))
    return tuple(notes)


def _tiles(targets: Sequence[StructureReport], colours: Mapping[str, str]) -> tuple[Tile, ...]:
    return tuple(
        Tile(
            str(target.number),
            colours[target.name],
            target.name,
            f"{target.prescription_gy:g} Gy",
            (
                Fact("D95%", number(target.dose.metrics.d95_gy, GY)),
                Fact("V95% (%)", number(target.dose.metrics.v95_percent, PERCENT)),
                Fact("HI", number(target.dose.metrics.homogeneity_index, INDEX)),
                Fact("CI", number(target.dose.metrics.conformity_index, INDEX)),
            ),
        )
        for target in targets
        if target.dose and target.prescription_gy is not None
    )


def _row(structure: StructureReport, colours: Mapping[str, str], cells: Sequence[Cell]) -> Row:
    note = f"ROI {structure.roi_name}" if structure.roi_name not in {"", structure.name} else ""
    return Row(str(structure.number), colours[structure.name], structure.name, note, tuple(cells))


def _metrics_table(
    title: str,
    structures: Sequence[StructureReport],
    columns: Sequence[tuple[str, str, int]],
    colours: Mapping[str, str],
    hint: str,
    *,
    prescribed: bool,
) -> Table:
    rows = []
    for structure in structures:
        cells = [Cell(number(structure.prescription_gy, GY))] if prescribed else []
        cells.append(Cell(number(structure.volume_cc, CC)))
        for _, field, decimals in columns:
            value = getattr(structure.dose.metrics, field) if structure.dose else None
            difference = getattr(structure.difference, field) if structure.difference else None
            cells.append(Cell(number(value, decimals), signed(difference, decimals)))
        rows.append(_row(structure, colours, cells))
    headings = (*(("Rx",) if prescribed else ()), "Vol. (cc)", *(heading for heading, _, _ in columns))
    return Table(title, headings, tuple(rows), hint)


def _volume_table(structures: Sequence[StructureReport], colours: Mapping[str, str], hint: str) -> Table:
    measured = [structure for structure in structures if structure.dose]
    levels = list(measured[0].dose.metrics.volume_percent_at_gy) if measured and measured[0].dose else []
    rows = []
    for structure in measured:
        values = structure.dose.metrics.volume_percent_at_gy if structure.dose else {}
        differences = structure.difference.volume_percent_at_gy if structure.difference else {}
        cells = [Cell(number(values[x], PERCENT), signed(differences.get(x), PERCENT)) for x in levels]
        rows.append(_row(structure, colours, cells))
    return Table("Volume that receives at least a dose", tuple(f"V{x}Gy" for x in levels), tuple(rows), hint)


def _goal_rows(goals: Goals | None) -> tuple[GoalRow, ...]:
    rows = []
    for result in goals.results if goals else ():
        decimals = GY if result.unit == "Gy" else PERCENT
        if result.margin is None:
            state, verdict = "open", "not evaluated"
        else:
            state = "met" if result.met else "missed"
            verdict = f"{state} by {number(abs(result.margin), decimals)} {result.unit}"
        rows.append(
            GoalRow(
                structure=result.structure,
                goal=f"{result.metric} {'≤' if result.at_most else '≥'} {number(result.limit, decimals)} {result.unit}",
                value=number(result.value, decimals),
                reference=number(result.reference_value, decimals),
                state=state,
                verdict=verdict,
                meaning=result.meaning,
                source=result.source,
            )
        )
    return tuple(rows)


def _goals_hint(goals: Goals | None) -> str:
    if goals is None:
        return ""
    sources = "; ".join(f"{name}: {text}" for name, text in goals.sources.items())
    is_open = any(result.met is None for result in goals.results)
    meaning = "Not evaluated: the study lacks the structure, or it is too small. " if is_open else ""
    return f"{meaning}Sources: {sources}."


def _comparison(report: Report) -> tuple[Fact, ...]:
    comparison = report.comparison
    if comparison is None:
        return ()
    gamma = comparison.gamma
    thinned = "" if gamma.every_nth == 1 else f", one of {gamma.every_nth} along each axis"
    criteria = (
        f"{gamma.dose_percent:g} % of {number(gamma.normalisation_gy, GY)} Gy ({report.normalisation.meaning}), "
        f"{gamma.distance_mm:g} mm, global; reference doses from {gamma.cutoff_percent:g} % within the External: "
        f"{gamma.judged_voxels} voxels judged{thinned}"
    )
    return (
        Fact("Reference", comparison.reference),
        Fact(
            "Mean absolute difference", f"{number(comparison.mean_absolute_difference_gy, GY)} Gy within the External"
        ),
        Fact("Gamma ≤ 1", f"{number(gamma.passing_percent, PERCENT)} %"),
        Fact("Criteria", criteria),
    )


def _mapping_row(structure: StructureReport, colours: Mapping[str, str]) -> Row:
    found = structure.roi_name or "none; derived from the CT"
    cells = (Cell(structure.name), Cell(USES[structure.kind]), Cell(number(structure.volume_cc, CC)))
    return Row(str(structure.number), colours[structure.name], found, "", cells)


def _mapping_hint(metadata: ReportMetadata) -> str:
    sentences = []
    if metadata.missing_structures:
        sentences.append(f"The model knows and the study lacks: {', '.join(metadata.missing_structures)}.")
    if metadata.unused_rois:
        sentences.append(f"Not used: {', '.join(metadata.unused_rois)}.")
    return " ".join(sentences)


def _model(prediction: PredictionSummary) -> tuple[Fact, ...]:
    model = prediction.model
    patients = f"{model.training_patients} {'simulated ' if model.simulated_training_data else ''}patients"
    merits = ", ".join(_merit(name, value) for name, value in model.figures_of_merit.items())
    seconds = "" if prediction.duration_s is None else f", {prediction.duration_s:.1f} s"
    return (
        Fact("Model", f"{model.name} {model.version}; licence {model.licence}"),
        Fact("Description", model.description),
        Fact("Trained on", f"{model.training_data}: {patients}, {model.site}"),
        Fact("On validation patients", merits or "no figures of merit"),
        Fact(
            "Sampling",
            f"{prediction.sampler}, {_counted(prediction.steps, 'step')}, mean of "
            f"{_counted(prediction.samples, 'sample')}, seed {prediction.seed}",
        ),
        Fact("Device", f"{prediction.device}{seconds}"),
        Fact("Weights, SHA-256", model.weights_sha256),
    )


def _merit(name: str, value: float | str) -> str:
    """Write a figure of merit; the names of those in Gy end so."""
    words = name.removesuffix("_gy").replace("_", " ").replace("openkbp", "OpenKBP").replace("dvh", "DVH")
    unit = " Gy" if name.endswith("_gy") else ""
    return f"{words} {value:g}{unit}" if isinstance(value, float) else f"{words} {value}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _identifiers(metadata: ReportMetadata) -> tuple[Fact, ...]:
    study = metadata.study
    texts = (
        ("Job", metadata.job_id),
        ("Study Instance UID", study.study_instance_uid),
        ("RTSTRUCT", study.structure_set_uid),
        ("RTPLAN", study.plan_uid),
        ("RTDOSE", study.dose_uid),
        ("Reference RTDOSE", study.reference_dose_uid),
        ("Software", f"DiffDP {metadata.software_version}, report version 2.0"),
    )
    return tuple(Fact(label, text) for label, text in texts if text)
