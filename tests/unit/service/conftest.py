"""Parts of the service with fakes where the outside world would be."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from model.cohort.neck import simulated_neck
from model.dicom.export import write_study
from model.errors import StudyError
from service.access.audit import AuditLog
from service.access.keys import KeyStore
from service.api.app import create_app
from service.jobs.job import Examination, Job, Parameters, PrescriptionRecord, Sampling, UsedStructure
from service.jobs.outbox import Outbox
from service.jobs.repository import JobRepository
from service.jobs.states import Stage
from service.jobs.tables import Base, connect
from service.settings import Settings
from service.storage.folders import LocalStorage
from service.storage.layout import ARCHIVE, RESULTS, job_key
from service.worker.lifecycle import StageRunner

LEASE_S = 30.0


@dataclass
class Clock:
    """A clock that moves when it is told to."""

    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Bell:
    """Remembers for which stages it was rung, and was not heard if it is told so."""

    rung: list[Stage] = field(default_factory=list)
    not_heard: int = 0
    broken: bool = False

    def ring(self, stage: Stage) -> None:
        self.rung.append(stage)

    def unheard(self, stage: Stage) -> int:
        return self.not_heard

    def check(self) -> None:
        if self.broken:
            raise ConnectionError


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture(scope="session")
def postgres_engine(postgres) -> Iterator[Engine]:
    postgres.execute("CREATE DATABASE jobs")
    engine = connect(postgres.url("jobs"))
    yield engine
    engine.dispose()


@pytest.fixture
def engine(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty job database."""
    if database == "postgresql":
        engine = request.getfixturevalue("postgres_engine")
        with engine.begin() as connection:
            connection.execute(text(f"TRUNCATE {', '.join(Base.metadata.tables)}"))
        yield engine
        return
    engine = connect(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    yield engine
    engine.dispose()


@pytest.fixture
def jobs(engine: Engine, clock: Clock) -> JobRepository:
    return JobRepository(engine, lease_s=LEASE_S, max_attempts=3, clock=clock)


@pytest.fixture
def audit(engine: Engine, clock: Clock) -> AuditLog:
    return AuditLog(engine, clock)


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "storage")


@pytest.fixture
def examination() -> Examination:
    return Examination(
        model="tiny",
        structures=(
            UsedStructure(name="External", kind="external", roi_number=1, roi_name="BODY"),
            UsedStructure(name="PTV_7000", kind="target", roi_number=2, roi_name="PTV_7000"),
        ),
        missing=("Larynx",),
        unused=("Couch",),
        prescription=PrescriptionRecord(dose_gy={"PTV_7000": 70.0}, fractions=35, source="plan"),
        sampling=Sampling(sampler="coarse-ddim", steps=4, samples=1, seed=0),
        slices=10,
        warnings=("a warning",),
    )


@pytest.fixture
def add_job(jobs: JobRepository, examination: Examination, clock: Clock) -> Callable[..., Job]:
    """Store a job; each is a second younger than the one before."""
    number = 0

    def add(**parameters: object) -> Job:
        nonlocal number
        number += 1
        clock.advance(1)
        return jobs.add(f"{number:032x}", Parameters(**parameters), examination, content_sha256=str(number))

    return add


@pytest.fixture
def make_client(jobs, engine, audit, storage, bell, examination, tiny_manifest, tmp_path) -> Callable[..., TestClient]:
    async def examiner(folder: Path, parameters: Parameters, *, tenant: str) -> Examination:
        text = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))  # noqa: ASYNC240 - a few bytes
        if text.startswith(b"refuse"):
            raise StudyError("a slice is missing", code="missing-slice", details={"slices": 3})
        if text.startswith(b"break"):
            raise RuntimeError("DOE^JOHN")
        return examination

    def make(**changed: object) -> TestClient:
        settings = Settings(data_dir=tmp_path, **changed)
        app = create_app(
            settings=settings,
            jobs=jobs,
            outbox=Outbox(engine, max_attempts=3, pause_s=1, attempt_s=1),
            storage=storage,
            doorbell=bell,
            examiner=examiner,
            manifests={"tiny": tiny_manifest},
            keys=KeyStore(engine),
            audit=audit,
        )
        return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)

    return make


@pytest.fixture
def client(make_client) -> TestClient:
    return make_client()


class FakePipeline:
    """Stores a file, then does what a test wants."""

    def __init__(self, storage: LocalStorage, act: Callable[..., None]) -> None:
        self.storage = storage
        self.act = act

    def run(self, stage: Stage, job: Job, output: str, *, progress, cancelled) -> tuple[str, ...]:
        with self.storage.writing(job_key(job.id, output)) as folder:
            (folder / "file").touch()
            self.act(progress, cancelled)
        return ("a new warning",)


@pytest.fixture
def run(jobs: JobRepository, storage: LocalStorage, bell):
    """Run one stage with an action; returns the pipeline."""

    def run_stage(act: Callable[..., None], *, stage: Stage = Stage.PREPARE, stopping=lambda: False) -> FakePipeline:
        pipeline = FakePipeline(storage, act)
        runner = StageRunner(jobs, pipeline, bell, owner="w", heartbeat_s=0.02, lease_s=30.0, stopping=stopping)
        runner.run(stage)
        return pipeline

    return run_stage


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the DICOM files of a simulated patient."""
    folder = tmp_path_factory.mktemp("study")
    write_study(simulated_neck(1), folder)
    return folder


@pytest.fixture
def finish(jobs: JobRepository, storage: LocalStorage) -> Callable[[], None]:
    """Bring the eldest job to its end with results."""

    def run() -> None:
        for stage in Stage:
            job, lease = jobs.claim(stage, "w")
            output = f"{stage}-{lease.token}"
            with storage.writing(job_key(job.id, output)) as folder:
                for name in (*RESULTS, ARCHIVE):
                    (folder / name).write_text(name)
            jobs.advance(lease, stage, output=output)

    return run
