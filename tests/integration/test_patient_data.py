"""A patient whose every identifier is a canary goes through real processes: none of it is where it has no business."""

import copy
import io
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
import sqlalchemy
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless
from sqlalchemy import create_engine, inspect

from model.cohort.neck import simulated_neck
from model.dicom.export import write_study
from service.settings import Settings

KEY = "a-key-of-enough-length"
SECRET = "whsec_" + "c2Vj" * 8
RESULTS = ("dose", "plan", "report", "archive", "viewer", "ct")
ROOT_UID = "1.2.826.0.1.3680043.77."

NAMES = ("Canarius", "Kanarienweg", "KAN-4711", "19330211", "1933-02-11")
"""Of name, address, identifiers and birth date."""
UIDS = (f"{ROOT_UID}1", f"{ROOT_UID}2", f"{ROOT_UID}3.")
"""Of the study, its frame of reference, and of every image. The series of the CT and the structure set are parameters
of a job, so they stand in the database and in answers to whoever posted them."""


class Receiver:
    """Takes calls back."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.taken.append(self.path + str(self.headers) + body.decode())
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


Files = dict[str, pydicom.Dataset]


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of a study by the names under which they are posted."""
    folder = tmp_path_factory.mktemp("patient")
    write_study(simulated_neck(1, shape=(16, 48, 48), spacing_mm=(12.0, 10.0, 10.0)), folder)
    files = {f"Canarius/KAN-4711-{n}.dcm": pydicom.dcmread(path) for n, path in enumerate(sorted(folder.iterdir()))}
    images = [dataset for dataset in files.values() if dataset.Modality == "CT"]
    uids = {str(image.SOPInstanceUID): f"{UIDS[2]}{number}" for number, image in enumerate(images)}
    uids |= {str(images[0].StudyInstanceUID): UIDS[0], str(images[0].FrameOfReferenceUID): UIDS[1]}

    def rename(_dataset: pydicom.Dataset, element: pydicom.DataElement) -> None:
        if element.VR == "UI":
            element.value = uids.get(str(element.value), element.value)

    for dataset in files.values():
        dataset.walk(rename)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.PatientName, dataset.PatientID = "Canarius^Carla", "KAN-4711"
        dataset.PatientBirthDate, dataset.PatientAddress = "19330211", "Kanarienweg 7"
        dataset.AccessionNumber = dataset.StudyID = "KAN-4711"
        dataset.StudyDescription = dataset.SeriesDescription = dataset.PatientComments = "Canarius, Carla"
        dataset.ReferringPhysicianName = dataset.OperatorsName = "Canarius^Otto"
    return files


def archive(files: Files) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as target:
        for name, dataset in files.items():
            file = io.BytesIO()
            dataset.save_as(file)
            target.writestr(name, file.getvalue())
    return packed.getvalue()


def undecodable(files: Files) -> Files:
    """The same study, with pixels that break the decoder; what is read of it at first is sound."""
    changed = copy.deepcopy(files)
    for dataset in changed.values():
        if dataset.Modality == "CT":
            dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
            dataset.PixelData = encapsulate([b"\xff\x4f\xff\x51 Canarius KAN-4711"])
    return changed


def holes(files: Files) -> Files:
    """The same study without one of its slices, and with an odd date of birth of which readers warn."""
    changed = copy.deepcopy(files)
    images = sorted(name for name, dataset in changed.items() if dataset.Modality == "CT")
    del changed[images[len(images) // 2]]
    for dataset in changed.values():
        dataset["PatientBirthDate"]._value = "Canarius"
    return changed


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def test_nothing_of_a_patient_is_where_it_has_no_business(
    patient, receiver, redis_url, tiny_models, tmp_path, processes
) -> None:
    settings = Settings.load(
        data_dir=tmp_path / "data", model_dirs=(tiny_models,), device="cpu", port=processes.free_port(),
        broker_url=redis_url, api_keys=KEY, webhook_secrets=SECRET, webhook_allowed="127.0.0.1", log_level="DEBUG",
    )  # fmt: skip
    log = tmp_path / "log"
    heard = tmp_path / "heard"
    with log.open("wb") as stream, heard.open("wb") as told:
        # Redis tells every command that it gets, and so every message
        broker = subprocess.Popen(["redis-cli", "-u", redis_url, "monitor"], stdout=told)
        server = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "serve"], env=processes.environment(settings), stderr=stream
        )
    address = f"http://127.0.0.1:{settings.port}"
    seen: list[str] = []
    try:
        processes.wait_until(lambda: is_ready(address), "the service")
        with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {KEY}"}, timeout=120) as http:

            def ask(method: str, path: str, **more: Any) -> httpx.Response:
                answer = http.request(method, path, **more)
                # Of results only what is said about them: they are the patient's own
                is_result = method == "GET" and path.rpartition("/")[2] in RESULTS
                seen.append(str(answer.headers) + ("" if is_result else answer.text))
                return answer

            def post(files: Files, **headers: str) -> httpx.Response:
                headers = {"Content-Type": "application/zip", "Idempotency-Key": "Canarius KAN-4711", **headers}
                query = {"model": "tiny", "callback_url": receiver.url}
                return ask("POST", "/v1/jobs", content=archive(files), params=query, headers=headers)

            assert post(holes(patient)).status_code == 422
            whole = post(patient, **{"X-Request-ID": "Canarius-KAN-4711-KAN", "User-Agent": "Canarius"}).json()
            broken = post(undecodable(patient), **{"Idempotency-Key": "KAN-4711"})
            form = [("files", (f"{name}", b"Canarius KAN-4711")) for name in patient]
            assert ask("POST", "/v1/jobs", files=form).status_code == 422
            assert ask("GET", "/v1/jobs/Canarius").status_code == 404
            assert ask("GET", "/v1/jobs", params={"cursor": "Canarius", "name": "KAN-4711"}).status_code == 422
            assert ask("POST", "/v1/jobs", params={"Canarius": "KAN-4711"}).status_code == 415
            assert ask("GET", "/Canarius/KAN-4711").status_code == 404

            jobs = [whole["id"], *([broken.json()["id"]] if broken.status_code == 202 else [])]
            processes.wait_until(lambda: len(receiver.taken) == len(jobs), "the ends of the jobs")
            states = [ask("GET", f"/v1/jobs/{job_id}").json()["state"] for job_id in jobs]
            assert states == ["succeeded", "failed"]
            for name in (*RESULTS[:-1], "viewer/ct"):
                assert ask("GET", f"/v1/jobs/{whole['id']}/{name}").status_code == 200
            assert ask("GET", f"/v1/jobs/{jobs[1]}/dose").status_code == 409
            ask("GET", "/v1/jobs")
            seen.append(ask("GET", "/metrics").text)
    finally:
        for process in (server, broker):
            process.terminate()
            process.wait(60)

    logged = log.read_text()
    assert '"message": "failed"' in logged
    places = {
        "logs": logged,
        "calls back": "\n".join(receiver.taken),
        "the broker": heard.read_text(),
        "answers": "\n".join(seen),
        "the database": rows(settings.database),
    }
    assert "prepare" in places["the broker"]
    found = {(place, word) for place, text in places.items() for word in (*NAMES, *UIDS) if word in text}
    assert found == set()
    # In the file itself as well, where deleted rows may linger
    assert files_with("Canarius", settings.data_dir) == ["storage"]


def is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz").is_success
    except httpx.TransportError:
        return False


def rows(database: str) -> str:
    """All that stands in a database, as text."""
    engine = create_engine(database)
    with engine.connect() as connection:
        tables = inspect(connection).get_table_names()
        assert {"jobs", "job_events", "deliveries", "audit_log"} <= set(tables)
        text = "\n".join(repr(connection.execute(sqlalchemy.text(f"SELECT * FROM {table}")).all()) for table in tables)
    engine.dispose()
    return text


def files_with(word: str, folder: Path) -> list[str]:
    """Return what of a folder holds a word, in files or in their names."""
    command = ["grep", "--recursive", "--files-with-matches", "--text", "--fixed-strings", word, "."]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout.splitlines()
    named = [str(path.relative_to(folder)) for path in folder.rglob("*") if word in path.name]
    return sorted({Path(name).parts[0] for name in (*found, *named)})
