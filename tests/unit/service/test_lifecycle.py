"""A stage under a lease: every way in which it can end, and what the database says afterwards."""

import threading
import time
from collections.abc import Callable

import pytest
from sqlalchemy.exc import OperationalError

from model.errors import Cancelled, DeviceError, PredictionError, StudyError
from service.jobs.job import Job, Progress
from service.jobs.repository import JobRepository
from service.jobs.states import Stage, State
from service.storage.folders import LocalStorage
from service.storage.layout import job_key
from service.worker.lifecycle import StageRunner
from service.worker.reaper import Reaper


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


def fail_with(error: Exception) -> Callable[..., None]:
    def act(progress, cancelled) -> None:
        raise error

    return act


def until_told_to_stop(progress, cancelled) -> None:
    deadline = time.monotonic() + 10
    while not cancelled():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    raise Cancelled("stopped")


def test_a_stage_that_ends_well_moves_the_job_on(run, jobs: JobRepository, add_job, storage, bell) -> None:
    job_id = add_job().id
    for stage in Stage:
        run(lambda progress, cancelled: None, stage=stage)
    job = jobs.get(job_id)
    assert job.state is State.SUCCEEDED
    assert bell.rung == [Stage.PREDICT, Stage.PUBLISH]
    assert job.warnings == ("a warning", "a new warning")
    assert storage.children(job_key(job_id)) == ["publish-3"]


def test_without_a_job_nothing_happens(run) -> None:
    run(fail_with(AssertionError()))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StudyError("a slice is broken", code="pixel-format"), "pixel-format"),
        (PredictionError("not finite", code="dose-not-finite"), "dose-not-finite"),
        (RuntimeError("DOE^JOHN"), "internal"),
    ],
)
def test_an_error_of_the_job_fails_it(run, jobs: JobRepository, add_job, storage, caplog, error, code) -> None:
    job_id = add_job().id
    run(fail_with(error))
    job = jobs.get(job_id)
    assert (job.state, job.error.code, job.error.stage) == (State.FAILED, code, "prepare")
    assert storage.children(job_key(job_id)) == []
    assert "DOE" not in job.error.message


@pytest.mark.parametrize(
    "error", [OSError(28, "no space"), MemoryError(), DeviceError("no GPU"), OperationalError("x", {}, Exception())]
)
def test_an_error_of_the_machine_gives_the_job_back(run, jobs: JobRepository, add_job, error) -> None:
    job_id = add_job().id
    for attempt in (1, 2, 3):
        run(fail_with(error))
        assert (jobs.get(job_id).state, jobs.get(job_id).attempts) == (State.PREPARING, attempt)
    jobs.reap(ring_again_s=60)
    assert jobs.get(job_id).error.code == "quarantined"


def test_progress_is_stored_while_the_stage_runs(run, jobs: JobRepository, add_job) -> None:
    job_id = add_job().id
    seen = []

    def act(progress, cancelled) -> None:
        progress(Progress(0.5, 5, 10))
        deadline = time.monotonic() + 10
        while jobs.get(job_id).progress.slices_done != 5:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        seen.append(jobs.get(job_id).progress)

    run(act)
    assert seen == [Progress(0.5, 5, 10)]


def test_a_wish_to_cancel_reaches_the_stage(run, jobs: JobRepository, add_job, storage) -> None:
    job_id = add_job().id
    threading.Timer(0.1, lambda: jobs.request_cancel(job_id)).start()
    run(until_told_to_stop)
    assert jobs.get(job_id).state is State.CANCELLED
    assert storage.children(job_key(job_id)) == []


def test_a_purged_job_leaves_no_file(run, jobs: JobRepository, add_job, storage) -> None:
    job_id = add_job().id

    def act(progress, cancelled) -> None:
        jobs.purge(job_id)
        storage.delete(job_key(job_id))
        # It has not heard of it and goes on writing

    run(act)
    assert jobs.is_purged(job_id)
    assert storage.children("jobs") == []


def test_a_worker_that_is_shut_down_gives_its_job_back(run, jobs: JobRepository, add_job) -> None:
    job_id = add_job().id
    stopping = threading.Event()
    threading.Timer(0.1, stopping.set).start()
    run(until_told_to_stop, stopping=stopping.is_set)
    assert jobs.get(job_id).state is State.PREPARING
    assert jobs.claim(Stage.PREPARE, "next")[0].attempts == 1


def test_what_a_worker_does_after_its_lease_was_lost_does_not_count(run, jobs: JobRepository, add_job, clock) -> None:
    job_id = add_job().id
    taken = []

    def act(progress, cancelled) -> None:
        clock.advance(31)
        taken.append(jobs.claim(Stage.PREPARE, "other"))
        until_told_to_stop(progress, cancelled)

    run(act)
    _, lease = taken[0]
    assert jobs.get(job_id).state is State.PREPARING
    assert jobs.advance(lease, Stage.PREPARE, output="prepare-2") is State.PREDICTING


def test_the_reaper_rings_and_sweeps(jobs: JobRepository, storage: LocalStorage, bell, add_job, clock) -> None:
    kept = add_job().id
    for job_id in (kept, "0" * 32):
        with storage.writing(job_key(job_id, "study")) as folder:
            (folder / "file").touch()
    reaper = Reaper(jobs, storage, bell, worker="w", every_s=1, ring_again_s=60, abandoned_s=-1)
    clock.advance(61)
    reaper.look(ring_again_s=60)
    assert bell.rung == [Stage.PREPARE]
    assert jobs.workers_alive(30) == 1
    reaper.sweep()
    assert storage.children("jobs") == [kept]


def test_the_reaper_tidies_for_a_worker_killed_just_after_the_end(
    run, jobs: JobRepository, storage: LocalStorage, bell, add_job
) -> None:
    job_id = add_job().id
    for stage in Stage:
        run(lambda progress, cancelled: None, stage=stage)
    with storage.writing(job_key(job_id, "predict-2")) as folder:
        (folder / "file").touch()
    Reaper(jobs, storage, bell, worker="w", every_s=1, ring_again_s=60, abandoned_s=-1).sweep()
    assert storage.children(job_key(job_id)) == ["publish-3"]
