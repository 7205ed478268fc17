"""A stage under a lease: every way in which it can end, and what the database says afterwards."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.exc import InterfaceError, OperationalError

from model.errors import Cancelled, DeviceError, PredictionError, StudyError
from service.jobs.job import Fault, Progress
from service.jobs.repository import JobRepository
from service.jobs.states import Stage, State
from service.settings import Settings
from service.storage.bucket import Bucket, BucketStorage
from service.storage.folders import LocalStorage
from service.storage.layout import job_key, tidy
from service.storage.scratch import Scratch
from service.worker.celery_app import create_celery
from service.worker.reaper import Reaper
from service.worker.retention import Retention
from service.worker.rounds import Round


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
    reaper = Reaper(jobs, storage, bell, worker="w", stages=tuple(Stage), ring_again_s=60, abandoned_s=-1)
    # At first for all that wait, then for what waits for long
    for waited_s, rung in ((1, 1), (1, 1), (61, 2)):
        clock.advance(waited_s)
        reaper.look()
        assert bell.rung == [Stage.PREPARE] * rung
    assert jobs.figures(silent_s=30).workers == dict.fromkeys(Stage, 1)
    reaper.sweep()
    assert storage.children("jobs") == [kept]


@pytest.mark.parametrize(("not_heard", "rung"), [(0, 2), (2, 1), (3, 0), (9, 0)])
def test_the_reaper_rings_no_oftener_than_there_are_jobs(
    jobs: JobRepository, storage, bell, add_job, clock, not_heard, rung
) -> None:
    add_job(), add_job()
    clock.advance(61)
    # Whose own ring must be left to it
    add_job()
    bell.not_heard = not_heard
    reaper = Reaper(jobs, storage, bell, worker="w", stages=tuple(Stage), ring_again_s=60, abandoned_s=60)
    reaper.look()
    assert bell.rung == [Stage.PREPARE] * rung


def test_the_reaper_tidies_for_a_worker_killed_just_after_the_end(
    run, jobs: JobRepository, storage: LocalStorage, bell, add_job
) -> None:
    job_id = add_job().id
    for stage in Stage:
        run(lambda progress, cancelled: None, stage=stage)
    with storage.writing(job_key(job_id, "predict-2")) as folder:
        (folder / "file").touch()
    Reaper(jobs, storage, bell, worker="w", stages=tuple(Stage), ring_again_s=60, abandoned_s=-1).sweep()
    assert storage.children(job_key(job_id)) == ["publish-3"]


def test_a_database_that_restarts_at_the_end_of_a_stage_does_not_cost_the_stage(
    run, jobs: JobRepository, add_job, monkeypatch
) -> None:
    job_id = add_job().id
    advance, answers = jobs.advance, [OperationalError("x", {}, Exception()), InterfaceError("x", {}, Exception())]

    def fail_first(*arguments, **more):
        if answers:
            raise answers.pop()
        return advance(*arguments, **more)

    monkeypatch.setattr(jobs, "advance", fail_first)
    run(lambda progress, cancelled: None)
    assert jobs.get(job_id).state is State.PREDICTING
    assert jobs.get(job_id).outputs == {"prepare": "prepare-1"}


def test_what_a_requeued_job_makes_is_not_tidied_with_what_it_had_made(jobs, storage: LocalStorage, add_job) -> None:
    job_id = add_job().id
    _, lease = jobs.claim(Stage.PREPARE, "w")
    jobs.fail(lease, Fault(code="internal", message="", stage="prepare"))
    for name in ("study", "prepare-1", "prepare-2"):
        with storage.writing(job_key(job_id, name)) as folder:
            (folder / "file").touch()
    jobs.requeue(job_id)
    tidy(storage, job_id, keep=None, token=lease.token)
    assert storage.children(job_key(job_id)) == ["prepare-2", "study"]


def test_a_worker_loads_no_torch_before_it_forks() -> None:
    code = "import sys, service.worker.start, service.cli.serve; sys.exit('torch' in sys.modules)"
    root = Path(__file__).resolve().parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_broker_and_tasks_agree_on_times_and_on_messages_of_lost_workers(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, broker_url="redis://nowhere:1/0", hard_limit_s=7200)
    conf = create_celery(settings).conf
    assert conf.task_time_limit == 7200 < conf.broker_transport_options["visibility_timeout"]
    assert conf.task_acks_late is conf.task_reject_on_worker_lost is True
    assert conf.worker_prefetch_multiplier == 1


class TestRetention:
    @pytest.fixture
    def ended(self, jobs: JobRepository, storage: LocalStorage, add_job, clock) -> list[str]:
        """Three jobs that ended a day after each other, and one that waits."""
        ids = [add_job().id for _ in range(4)]
        for job_id in ids:
            with storage.writing(job_key(job_id, "study")) as folder:
                (folder / "file").touch()
        for job_id in ids[:3]:
            clock.advance(86400)
            jobs.request_cancel(job_id)
        return ids

    def test_by_age(self, jobs, storage, audit, ended: list[str]) -> None:
        Retention(jobs, storage, audit, days=1.5, min_free_bytes=0).look()
        assert storage.children("jobs") == sorted(ended[1:])
        assert jobs.is_purged(ended[0])

    def test_by_space_the_eldest_first_and_no_more_than_needed(
        self, jobs, storage, audit, ended: list[str], monkeypatch
    ) -> None:
        monkeypatch.setattr(storage, "free_bytes", lambda: 100 * (5 - len(storage.children("jobs"))))
        Retention(jobs, storage, audit, days=0, min_free_bytes=300).look()
        assert storage.children("jobs") == sorted(ended[2:])
        Retention(jobs, storage, audit, days=0, min_free_bytes=10**9).look()
        assert storage.children("jobs") == [ended[3]]

    def test_by_space_in_a_bucket(self, jobs, audit, s3, add_job, clock, tmp_path: Path) -> None:
        name = s3.make_bucket(versions=True)
        bucket = Bucket(name, "", s3.url, "eu-central-1", s3.KEY, s3.KEY)
        storage = BucketStorage(bucket, Scratch(tmp_path / "scratch"), capacity_bytes=4000)
        ids = [add_job().id for _ in range(3)]
        for job_id in ids:
            with storage.writing(job_key(job_id, "study")) as folder:
                (folder / "file").write_bytes(bytes(1000))
            clock.advance(86400)
            jobs.request_cancel(job_id)
        Retention(jobs, storage, audit, days=0, min_free_bytes=1500).look()
        assert storage.children("jobs") == ids[1:]
        Retention(jobs, storage, audit, days=0.5, min_free_bytes=0).look()
        assert storage.children("jobs") == ids[2:]

    def test_not_at_all(self, jobs, storage, audit, ended: list[str]) -> None:
        Retention(jobs, storage, audit, days=0, min_free_bytes=0).look()
        assert storage.children("jobs") == sorted(ended)


def test_a_round_that_fails_is_put_off() -> None:
    def fail() -> None:
        raise OperationalError("x", {}, Exception())

    Round(fail, 1.0).go()
    with pytest.raises(ZeroDivisionError):
        Round(lambda: 1 // 0, 1.0).go()
