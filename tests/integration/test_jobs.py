"""Jobs through the whole service, on every broker, with workers that are killed."""

import io
import json
import shutil
import signal
import zipfile

import numpy as np
import pydicom
import pytest
import redis


def dose_of(service, job_id: str) -> np.ndarray:
    dose = pydicom.dcmread(io.BytesIO(service.http.get(f"/v1/jobs/{job_id}/dose").content))
    return dose.pixel_array * float(dose.DoseGridScaling)


@pytest.mark.every_broker
def test_a_study_becomes_a_dose(service, processes) -> None:
    service.start_worker(0.2)
    job_id = service.post(seed=2)
    job = service.wait_for(job_id, "succeeded")
    assert job["warnings"] == ["fake"]
    processes.wait_until(lambda: service.folders(job_id) == ["publish-3", "study"], "the end of what is not needed")
    dose = dose_of(service, job_id)
    assert dose.max() == pytest.approx(72, abs=0.01)
    plan = pydicom.dcmread(io.BytesIO(service.http.get(job["links"]["plan"]).content))
    dose_file = pydicom.dcmread(io.BytesIO(service.http.get(job["links"]["dose"]).content))
    assert dose_file.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == plan.SOPInstanceUID
    report = service.http.get(job["links"]["report"]).json()
    assert report["metadata"]["job_id"] == job_id
    assert report["metadata"]["prediction"]["seed"] == 2
    assert "<html" in service.http.get(job["links"]["report"], headers={"Accept": "text/html"}).text
    assert service.http.get(job["links"]["report"], headers={"Accept": "application/pdf"}).content.startswith(b"%PDF")
    with zipfile.ZipFile(io.BytesIO(service.http.get(job["links"]["archive"]).content)) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == [
            *("dose.dcm", "plan.dcm"),
            *("report.csv", "report.html", "report.json", "report.pdf"),
        ]


@pytest.mark.every_broker
@pytest.mark.every_database
def test_a_job_survives_the_kill_of_its_worker(service, processes) -> None:
    first = service.start_worker(20)
    job_id = service.post()
    service.wait_until_predicting(job_id)
    pool = processes.descendants(first.pid)
    assert pool
    first.send_signal(signal.SIGKILL)
    first.wait()
    processes.wait_until(lambda: not any(map(processes.alive, pool)), "the end of the pool")
    assert service.job(job_id)["state"] == "predicting"

    service.start_worker(0.2)
    service.wait_for(job_id, "succeeded")
    processes.wait_until(lambda: service.folders(job_id) == ["publish-4", "study"], "the end of what is not needed")
    assert dose_of(service, job_id).max() == pytest.approx(70, abs=0.01)


@pytest.mark.every_broker
def test_a_job_survives_the_loss_of_the_broker(service) -> None:
    job_id = service.post()
    if service.settings.broker_url:
        with redis.Redis.from_url(service.settings.broker_url) as client:
            client.flushall()
    else:
        messages = service.settings.data_dir / "broker" / "messages"
        shutil.rmtree(messages)
        messages.mkdir()
    service.start_worker(0.2)
    service.wait_for(job_id, "succeeded")


def test_a_worker_that_is_stopped_gives_its_job_back(service) -> None:
    first = service.start_worker(60)
    job_id = service.post()
    service.wait_until_predicting(job_id)
    first.terminate()
    first.wait(30)
    assert service.job(job_id)["state"] == "predicting"
    service.start_worker(0.2)
    service.wait_for(job_id, "succeeded")


def test_cancel_stops_the_worker(service, processes) -> None:
    service.start_worker(60)
    job_id = service.post()
    service.wait_until_predicting(job_id)
    assert service.http.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
    service.wait_for(job_id, "cancelled")
    processes.wait_until(lambda: service.folders(job_id) == ["study"], "the end of what was half-done")
    # The worker is free for the next one
    follower = service.post()
    service.wait_until_predicting(follower)


def test_delete_leaves_nothing_of_a_running_job(service, processes) -> None:
    service.start_worker(60)
    job_id = service.post()
    service.wait_until_predicting(job_id)
    assert service.http.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert service.http.get(f"/v1/jobs/{job_id}").status_code == 410
    storage = service.settings.data_dir / "storage"
    processes.wait_until(
        lambda: not [path for path in storage.rglob("*") if path.is_file()] and not service.folders(job_id),
        "the end of all files",
    )


@pytest.mark.every_broker
def test_a_study_that_kills_its_workers_is_quarantined(service) -> None:
    service.start_worker(-1)
    job = service.wait_for(service.post(), "failed")
    assert job["error"]["code"] == "quarantined"
    assert "worker was lost" in job["error"]["detail"]
    assert json.dumps(job)
