"""From a clinic's studies to the tables and figures of a comparison, by the commands that a physicist gives."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner, Result

from model.checkpoint.store import open_checkpoint
from model.cohort.neck import simulated_neck
from model.dicom.export import write_study
from model.evaluation.scores import METRICS
from service.cli.main import app

RECIPE = """
name = "{kind}"
description = "for a test"
data = "simulated necks"
licence = "MIT"
simulated = true
site = "head-and-neck"
network = {{ kind = "{kind}", widths = [8, 8, 8, 8, 8], heads = 2, groups = 4 }}
sampler = {{ {sampler} }}
stages = {{ {stages} }}
training = {{ batch = 2, crop = [32, 48], seed = 3 }}
"""


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three simulated patients, imported from DICOM."""
    folder = tmp_path_factory.mktemp("patients")
    for seed in range(3):
        case = simulated_neck(seed, shape=(24, 60, 64), spacing_mm=(10.0, 7.0, 7.5))
        blurred = gaussian_filter(case.target_map_gy(), (1, 2, 2)) * case.external
        dose_gy = np.maximum(blurred, 0.95 * case.target_map_gy()).astype(np.float32)
        (folder / "studies" / str(seed)).mkdir(parents=True)
        write_study(replace(case, dose_gy=dose_gy), folder / "studies" / str(seed))
    run("import", "dicom", folder / "studies", folder / "cases")
    assert len(list((folder / "cases").glob("*.npz"))) == 3
    return folder / "cases"


@pytest.fixture(scope="module")
def checkpoints(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DiffDP and a network of regression, each trained for two batches."""
    folder = tmp_path_factory.mktemp("checkpoints")
    stages = {
        "diffdp": "pretrain = { batches = 2 }, diffusion = { batches = 2 }",
        "prunet": "regression = { batches = 2 }",
    }
    samplers = {"diffdp": 'sampler = "coarse-ddim", steps = 1, start_step = 15', "prunet": 'sampler = "regression"'}
    for kind, sampler in samplers.items():
        recipe = folder / f"{kind}.toml"
        recipe.write_text(RECIPE.format(kind=kind, sampler=sampler, stages=stages[kind]), encoding="utf-8")
        command = (
            "train",
            recipe,
            cases,
            cases,
            "-o",
            folder / kind,
            "--run",
            folder / "runs" / kind,
            "--device",
            "cpu",
        )
        assert f"checkpoint in {folder / kind}" in run(*command).stdout
        assert open_checkpoint(folder / kind).manifest.training.patients == 3
    return folder


def test_one_command_makes_every_table_and_figure_of_a_comparison(cases, checkpoints, tmp_path):
    systems = [
        f"DiffDP={checkpoints / 'diffdp'}",
        f"coarse dose={checkpoints / 'diffdp'}@coarse",
        f"mean of two={checkpoints / 'diffdp'}@ddim:2:2",
        f"PRUNet={checkpoints / 'prunet'}",
    ]
    result = run("evaluate", cases, *systems, "-o", tmp_path / "out", "--device", "cpu")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "comparison.md", "comparison.csv", "patients.csv", "dose_maps.png", "dvh.png", "commands.txt",
    }  # fmt: skip
    table = (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")
    assert table in result.stdout
    for label in ("DiffDP", "coarse dose", "mean of two", "PRUNet"):
        assert f"| {label} |" in table
    for column in ("Dose error", "ΔHI", "γ 3 %/3 mm", "Sharpness", "Coverage", "Parameters (M)", "GFLOP per slice"):
        assert column in table

    with (tmp_path / "out" / "patients.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 3
    always = {m.key for m in METRICS} - {m.key for m in METRICS if "coverage" in m.key}
    for row in rows:
        assert all(np.isfinite(float(row[key])) for key in always - {"detail_correlation"})
        assert bool(row["coverage_90"]) == (row["system"] == "mean of two")
    for name in ("dose_maps.png", "dvh.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")


def test_figures_are_put_into_the_manifest_when_asked_for(cases, checkpoints, tmp_path):
    shutil.copytree(checkpoints / "prunet", tmp_path / "prunet")
    only = ("--only", sorted(cases.glob("*.npz"))[1].stem)
    run("evaluate", cases, tmp_path / "prunet", *only, "--no-gamma", "--write", "--device", "cpu")
    figures = open_checkpoint(tmp_path / "prunet").manifest.figures_of_merit
    assert figures["patients"] == 1
    assert figures["openkbp_dose_score_gy"] > 0
    assert "gamma_3_percent_3_mm" not in figures


def test_a_calibrated_spread_is_in_the_manifest_and_used_by_the_default_alone(cases, checkpoints, tmp_path):
    shutil.copytree(checkpoints / "diffdp", tmp_path / "diffdp")
    result = CliRunner().invoke(app, ["calibrate", str(tmp_path / "diffdp"), str(cases), "--device", "cpu"])
    assert "by default it makes one sample" in str(result.exception)
    manifest = tmp_path / "diffdp" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"samples": 1', '"samples": 2'), encoding="utf-8")
    run("calibrate", tmp_path / "diffdp", cases, "--pooling-mm", "20", "--device", "cpu")
    spread = open_checkpoint(tmp_path / "diffdp").manifest.spread
    assert (spread.pooling_mm, spread.patients) == (20, 3)
    assert spread.scale > 0
    systems = (f"default={tmp_path / 'diffdp'}", f"other={tmp_path / 'diffdp'}@ddim:2:2")
    run("evaluate", cases, *systems, "-o", tmp_path / "out", "--no-gamma", "--device", "cpu")
    rows = list(csv.DictReader((tmp_path / "out" / "patients.csv").read_text().splitlines()))
    coverage = {
        label: [float(r["spread_coverage"]) for r in rows if r["system"] == label] for label in ("default", "other")
    }
    assert np.mean(coverage["default"]) == pytest.approx(0.9, abs=0.05)
    assert np.mean(coverage["other"]) < 0.85


@pytest.mark.parametrize(
    ("system", "told"),
    [
        ("absent", "no checkpoint of that name"),
        ("{diffdp}@regression", "cannot sample by regression"),
        ("{diffdp}@ddim:many", "steps"),
        ("{diffdp}@ddim:1:1:1:1", "is not SAMPLER"),
        ("{diffdp}@guess", "is no way of sampling"),
    ],
)
def test_systems_that_are_none_are_refused(cases, checkpoints, system, told):
    result = CliRunner().invoke(app, ["evaluate", str(cases), system.format(diffdp=checkpoints / "diffdp")])
    assert result.exit_code != 0
    assert told in f"{result.output}{result.exception}"


def test_two_systems_of_one_label_are_refused(cases, checkpoints):
    given = [f"a={checkpoints / 'diffdp'}", f"a={checkpoints / 'prunet'}"]
    result = CliRunner().invoke(app, ["evaluate", str(cases), *given])
    assert result.exit_code == 2
    assert "same label" in result.output


def test_a_recipe_that_is_none_is_told_before_anything_is_trained(cases, tmp_path):
    command = ["train", "absent", str(cases), str(cases), "-o", str(tmp_path / "o"), "--run", str(tmp_path / "r")]
    result = CliRunner().invoke(app, command)
    assert "there is no recipe absent" in str(result.exception)
    assert not list(tmp_path.iterdir())
