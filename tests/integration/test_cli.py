"""The command line with real processes: serving, predicting, submitting, and what exit codes mean."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

from service.cli.main import app
from service.settings import Settings

FILES = ["dose.dcm", "plan.dcm", "report.html", "report.json", "report.pdf"]


@pytest.fixture
def settings(tmp_path: Path, tiny_models: Path, processes) -> Settings:
    return Settings.load(
        data_dir=tmp_path / "data", model_dirs=(tiny_models,), device="cpu", port=processes.free_port(), lease_s=3
    )


@pytest.fixture
def diffdp(settings, processes):
    def run(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "service.cli", *map(str, arguments)]
        environment = {**processes.environment(settings), **more}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)

    return run


@pytest.fixture
def server(settings, processes) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "service.cli", "serve"]
    process = subprocess.Popen(command, env=processes.environment(settings))
    processes.wait_until(lambda: is_ready(settings.port), "the server")
    yield process
    process.terminate()
    process.wait(60)


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").is_success
    except httpx.TransportError:
        return False


def test_predict_and_submit_give_the_same_dose(diffdp, server, settings, study, tmp_path, processes) -> None:
    options = ("--model", "tiny", "--seed", 3, "--dose-grid-mm", 3, "--dvh-in-dose", "--json")
    predicted = diffdp("predict", study, "-o", tmp_path / "predicted", *options)
    assert predicted.returncode == 0, predicted.stderr
    assert json.loads(predicted.stdout)["examination"]["sampling"]["seed"] == 3
    address = f"http://127.0.0.1:{settings.port}"
    submitted = diffdp("submit", study, "-o", tmp_path / "submitted", "--server", address, *options)
    assert submitted.returncode == 0, submitted.stderr
    assert json.loads(submitted.stdout)["state"] == "succeeded"
    doses = []
    for name in ("predicted", "submitted"):
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == FILES
        doses.append(pydicom.dcmread(tmp_path / name / "dose.dcm"))
    assert doses[0].DoseGridScaling == doses[1].DoseGridScaling
    np.testing.assert_array_equal(doses[0].pixel_array, doses[1].pixel_array)
    assert doses[0].PixelSpacing == [3, 3]
    assert doses[0].DVHSequence == doses[1].DVHSequence

    refused = diffdp("submit", Path(__file__), "-o", tmp_path / "refused", "--server", address)
    assert refused.returncode == 3
    assert "nothing-readable" in refused.stderr

    # Killed outright, the server takes its worker with it
    below = processes.descendants(server.pid)
    assert len(below) >= 2
    os.kill(server.pid, signal.SIGKILL)
    processes.wait_until(lambda: not any(map(processes.alive, below)), "the end of the worker")


def test_what_was_trained_on_simulated_data_says_so(diffdp, rectum_study, tmp_path, settings) -> None:
    said = "simulated data: the model was trained on simulated patients and has never seen a real one"
    listed = diffdp("models").stdout
    assert listed.count(said) == sum(m["training"]["simulated"] for m in json.loads(diffdp("models", "--json").stdout))
    assert f"tiny-rectum 1: rectum. untrained, for tests\n    {said}" in listed
    predicted = diffdp("predict", rectum_study, "-o", tmp_path / "out", "--model", "tiny-rectum", "--sampler", "coarse")
    assert predicted.returncode == 0, predicted.stderr
    assert f"Note: {said}" in predicted.stderr
    dose = pydicom.dcmread(tmp_path / "out" / "dose.dcm")
    assert dose.DoseComment.startswith("predicted, not for treatment; simulated data; tiny-rectum")
    assert dose.SeriesDescription.endswith("trained on simulated data")


def test_the_demonstration_shows_the_plan_beside_the_prediction(
    rectum_case, tiny_models, tmp_path, monkeypatch, processes
) -> None:
    # The cohort's own plans take half a minute
    monkeypatch.setattr("model.cohort.rectum.simulated_rectum", lambda _cohort, _number: rectum_case)
    for name, value in {"MODEL_DIRS": tiny_models, "DEVICE": "cpu"}.items():
        monkeypatch.setenv(f"DIFFDP_{name}", str(value))
    monkeypatch.setenv("PYTHONPATH", processes.environment(Settings.load())["PYTHONPATH"])
    shown = CliRunner().invoke(app, ["demo", "-o", str(tmp_path / "out"), "--model", "tiny-rectum"])
    assert shown.exit_code == 0, shown.output
    assert "simulated data" in shown.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["metadata"]["simulated_training_data"]
    assert report["comparison"]["reference"] == "plan dose of the study"
    assert report["structures"][0]["reference"]["metrics"]["d50_gy"] == pytest.approx(50, abs=0.1)


def test_exit_codes(diffdp, study, tmp_path, processes) -> None:
    nowhere = f"http://127.0.0.1:{processes.free_port()}"
    assert diffdp("submit", study, "-o", tmp_path, "--server", nowhere).returncode == 4
    assert diffdp("predict", Path(__file__), "-o", tmp_path).returncode == 3
    assert diffdp("predict", study, "-o", tmp_path, "--model", "absent").returncode == 2
    assert diffdp("predict", tmp_path / "absent", "-o", tmp_path).returncode == 2
    exposed = diffdp("serve", "--host", "0.0.0.0")
    assert exposed.returncode == 2
    assert "API_KEYS" in exposed.stderr
    assert diffdp("models", DIFFDP_PROT="1").returncode == 2
    assert json.loads(diffdp("models", "--json").stdout)
