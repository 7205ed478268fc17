"""What must stay of a job and what must not, through the whole service: callbacks, retention, deletion."""

import base64
import io
import json
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pydicom
import pytest
from standardwebhooks import Webhook

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
CANARY = "Canarius"


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    got: list[tuple[dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(503 if len(got) == 1 else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", got
    server.shutdown()
    server.server_close()


@pytest.fixture
def settings(settings):
    """With calls back to this machine, at a quick pace."""
    extra = {"webhook_secrets": SECRET, "webhook_allowed": "127.0.0.1", "webhook_pause_s": 0.5}
    return replace_settings(settings, **extra)


@pytest.mark.every_database
def test_the_end_of_a_job_is_told_to_whoever_asked_for_it(service, receiver, processes) -> None:
    url, got = receiver
    service.start_worker(0.2)
    job_id = service.post(callback_url=url)
    service.wait_for(job_id, "succeeded")
    # The first attempt was answered with 503
    processes.wait_until(lambda: len(got) == 2, "the second call")
    headers, body = got[1]
    told = Webhook(SECRET).verify(body, headers)
    assert (told["type"], told["data"]["id"]) == ("job.succeeded", job_id)
    assert headers["webhook-id"] == got[0][0]["webhook-id"]


def traces(folder: Path) -> list[str]:
    """Files below a folder that hold the canary.

    Another process looks: whoever closes a file of SQLite's loses the locks that this process holds on it.
    """
    command = ["grep", "--recursive", "--files-with-matches", "--text", "--fixed-strings", CANARY, "."]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert found.returncode in {0, 1}
    return sorted(name.removeprefix("./") for name in found.stdout.splitlines())


@pytest.fixture
def marked_study(service, tmp_path: Path) -> Path:
    """The study with a canary for a patient: in the name, in the name of an ROI, and between the pixels."""
    source, target = zipfile.ZipFile(service.study), tmp_path / "marked.zip"
    with source, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as marked:
        for name in source.namelist():
            dataset = pydicom.dcmread(io.BytesIO(source.read(name)))
            dataset.PatientName = dataset.PatientID = CANARY
            if dataset.Modality == "RTSTRUCT":
                dataset.StructureSetROISequence[-1].ROIName = CANARY
            packed = io.BytesIO()
            dataset.save_as(packed)
            marked.writestr(name, packed.getvalue())
    return target


@pytest.mark.every_broker
def test_what_is_deleted_is_gone_from_every_file(service, marked_study: Path, receiver, processes, monkeypatch) -> None:
    monkeypatch.setattr(service, "study", marked_study)
    data = service.settings.data_dir
    service.start_worker(0.5)
    job_id = service.post(callback_url=receiver[0])
    assert any(name.startswith("storage/") for name in traces(data))
    service.wait_for(job_id, "succeeded")
    processes.wait_until(lambda: len(receiver[1]) == 2, "the call back")
    assert CANARY not in json.dumps([body.decode() for _, body in receiver[1]])
    assert any("diffdp.sqlite" in name for name in traces(data))
    assert any("publish" in name for name in traces(data))

    cut_off = service.post()
    service.wait_until_predicting(cut_off)
    for one in (job_id, cut_off):
        assert service.http.delete(f"/v1/jobs/{one}").status_code == 204
    # The worker must notice that the second one is gone; what others read meanwhile holds the log up until a sweep
    processes.wait_until(lambda: not [p for p in (data / "storage").rglob("*") if p.is_file()], "the end of all files")
    service.stop()
    assert traces(data) == []


@pytest.mark.in_bucket
def test_what_is_deleted_is_gone_from_the_bucket_with_its_versions(
    service, marked_study: Path, s3, processes, monkeypatch
) -> None:
    monkeypatch.setattr(service, "study", marked_study)
    bucket, _ = service.settings.bucket
    service.start_worker(0.5)
    job_id = service.post()
    assert any(CANARY.encode() in content for content in s3.contents(bucket).values())
    job = service.wait_for(job_id, "succeeded")
    with zipfile.ZipFile(io.BytesIO(service.http.get(job["links"]["archive"]).content)) as archive:
        assert archive.testzip() is None
        dose = archive.read("dose.dcm")
    assert service.http.get(job["links"]["dose"]).content == dose

    cut_off = service.post()
    service.wait_until_predicting(cut_off)
    for one in (job_id, cut_off):
        assert service.http.delete(f"/v1/jobs/{one}").status_code == 204
    # The worker must notice that the second one is gone
    processes.wait_until(lambda: s3.contents(bucket) == {}, "the end of all objects")
    service.stop()
    assert traces(service.settings.data_dir) == []


def test_ended_jobs_are_deleted_when_they_are_old(service, processes) -> None:
    service.settings = replace_settings(service.settings, retention_days=1e-6)
    job_id = service.post()
    service.start_worker(0.2)
    processes.wait_until(lambda: service.http.get(f"/v1/jobs/{job_id}").status_code == 410, "its deletion")
    processes.wait_until(lambda: service.folders(job_id) == [], "the end of its files")


def replace_settings(settings, **changed):
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    return type(settings).load(**{**given, **changed})


def test_a_failed_job_is_done_again(service) -> None:
    ill = service.start_worker(-1)
    job_id = service.post()
    assert service.wait_for(job_id, "failed")["error"]["code"] == "quarantined"
    ill.terminate()
    ill.wait(60)
    service.start_worker(0.2)
    assert service.http.post(f"/v1/jobs/{job_id}/requeue").status_code == 202
    assert service.wait_for(job_id, "succeeded")["error"] is None
