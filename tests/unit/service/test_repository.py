import base64
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, delete

from service.errors import JobNotFound, JobPurged, KeyReused, LeaseLost, ParametersError, RequeueRefused
from service.jobs.figures import Tally
from service.jobs.job import Examination, Fault, Job, Parameters, Progress
from service.jobs.repository import JobRepository, Standing
from service.jobs.states import Stage, State
from service.jobs.tables import EventRow

pytestmark = pytest.mark.every_database

AddJob = Callable[..., Job]
FAULT = Fault(code="internal", message="an unexpected error", stage="prepare")


def finish(jobs: JobRepository, stages: int = 3) -> None:
    for stage in list(Stage)[:stages]:
        _, lease = jobs.claim(stage, "w")
        jobs.advance(lease, stage, output=f"{stage}-{lease.token}")


def test_a_job_comes_back_as_it_was_stored(jobs: JobRepository, add_job: AddJob, examination: Examination) -> None:
    stored = add_job(prescription_gy={"PTV_7000": 70.0}, seed=5)
    assert jobs.get(stored.id) == stored
    assert stored.state is State.QUEUED
    assert stored.examination == examination
    assert stored.parameters.prescription_gy == {"PTV_7000": 70.0}
    with pytest.raises(JobNotFound):
        jobs.get("0" * 32)


def test_a_job_goes_through_all_stages(jobs: JobRepository, add_job: AddJob) -> None:
    job_id = add_job().id
    seen = []
    for stage in Stage:
        job, lease = jobs.claim(stage, "w")
        seen.append(job.state)
        jobs.advance(lease, stage, output=f"{stage}-{lease.token}", warnings=("late", "a warning"))
    done = jobs.get(job_id)
    assert [*seen, done.state] == ["preparing", "predicting", "publishing", "succeeded"]
    assert done.outputs == {"prepare": "prepare-1", "predict": "predict-2", "publish": "publish-3"}
    assert done.warnings == ("a warning", "late")
    assert done.finished_at is not None
    assert (done.progress.slices_done, done.progress.slices_total) == (10, 10)
    assert done.fraction == 1


def test_a_job_is_given_to_one_worker_only(jobs: JobRepository, add_job: AddJob) -> None:
    add_job()
    assert jobs.claim(Stage.PREPARE, "one") is not None
    assert jobs.claim(Stage.PREPARE, "two") is None
    assert jobs.claim(Stage.PREDICT, "two") is None


def test_workers_that_claim_at_once_get_different_jobs(jobs: JobRepository, add_job: AddJob) -> None:
    ids = {add_job().id for _ in range(8)}
    claimed = []
    threads = [
        threading.Thread(target=lambda: claimed.append(jobs.claim(Stage.PREPARE, threading.current_thread().name)))
        for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(job.id for job, _ in filter(None, claimed)) == sorted(ids)


def test_urgent_jobs_first_then_the_eldest(jobs: JobRepository, add_job: AddJob) -> None:
    elder, younger, urgent = add_job(), add_job(), add_job(priority=5)
    order = [jobs.claim(Stage.PREPARE, "w")[0].id for _ in range(3)]
    assert order == [urgent.id, elder.id, younger.id]


def test_a_lease_that_ran_out_can_be_claimed_and_the_old_one_counts_no_more(
    jobs: JobRepository, add_job: AddJob, clock
) -> None:
    add_job()
    _, old = jobs.claim(Stage.PREPARE, "slow")
    clock.advance(31)
    job, new = jobs.claim(Stage.PREPARE, "quick")
    assert job.attempts == 2
    assert jobs.report(old, Progress(0.5)) is Standing.LOST
    for act in (
        lambda: jobs.advance(old, Stage.PREPARE, output="prepare-1"),
        lambda: jobs.fail(old, FAULT),
        lambda: jobs.stop(old),
        lambda: jobs.release(old, "", counts=True),
    ):
        with pytest.raises(LeaseLost):
            act()
    assert jobs.advance(new, Stage.PREPARE, output="prepare-2") is State.PREDICTING
    with pytest.raises(LeaseLost):
        jobs.advance(new, Stage.PREPARE, output="prepare-2")


def test_reports_keep_a_lease_alive_and_only_progress_makes_a_revision(
    jobs: JobRepository, add_job: AddJob, clock
) -> None:
    job_id = add_job().id
    _, lease = jobs.claim(Stage.PREPARE, "w")
    revision = jobs.get(job_id).revision
    for _ in range(4):
        clock.advance(20)
        assert jobs.report(lease, Progress(0.25, 3, 10)) is Standing.HELD
    assert jobs.report(lease, None) is Standing.HELD
    assert jobs.get(job_id).revision == revision + 1
    assert jobs.get(job_id).progress == Progress(0.25, 3, 10)
    assert jobs.claim(Stage.PREPARE, "other") is None


def test_a_waiting_job_is_cancelled_at_once(jobs: JobRepository, add_job: AddJob) -> None:
    assert jobs.request_cancel(add_job().id).state is State.CANCELLED
    assert jobs.claim(Stage.PREPARE, "w") is None


def test_a_running_job_is_cancelled_when_its_worker_has_stopped(jobs: JobRepository, add_job: AddJob) -> None:
    job_id = add_job().id
    _, lease = jobs.claim(Stage.PREPARE, "w")
    asked = jobs.request_cancel(job_id)
    assert (asked.state, asked.cancel_requested) == (State.PREPARING, True)
    assert jobs.report(lease, Progress()) is Standing.CANCEL
    jobs.stop(lease)
    assert jobs.get(job_id).state is State.CANCELLED


def test_a_cancelled_job_does_not_move_on(jobs: JobRepository, add_job: AddJob) -> None:
    job_id = add_job().id
    _, lease = jobs.claim(Stage.PREPARE, "w")
    jobs.request_cancel(job_id)
    assert jobs.advance(lease, Stage.PREPARE, output="prepare-1") is State.CANCELLED


def test_cancelling_what_is_done_changes_nothing(jobs: JobRepository, add_job: AddJob) -> None:
    job_id = add_job().id
    finish(jobs)
    before = jobs.get(job_id)
    assert jobs.request_cancel(job_id) == before


def test_the_reaper_announces_jobs_of_lost_workers(jobs: JobRepository, add_job: AddJob, clock) -> None:
    add_job()
    jobs.claim(Stage.PREPARE, "killed")
    assert jobs.reap(ring_again_s=60).bells == ()
    clock.advance(31)
    assert jobs.reap(ring_again_s=60).bells == (Stage.PREPARE,)
    assert jobs.reap(ring_again_s=60).bells == ()
    assert jobs.claim(Stage.PREPARE, "next") is not None


def test_the_reaper_announces_jobs_whose_bell_was_lost(jobs: JobRepository, add_job: AddJob, clock) -> None:
    add_job()
    finish(jobs, stages=1)
    clock.advance(61)
    assert jobs.reap(ring_again_s=60).bells == (Stage.PREDICT,)


def test_the_reaper_cancels_for_a_lost_worker(jobs: JobRepository, add_job: AddJob, clock) -> None:
    job_id = add_job().id
    jobs.claim(Stage.PREPARE, "killed")
    jobs.request_cancel(job_id)
    clock.advance(31)
    jobs.reap(ring_again_s=60)
    assert jobs.get(job_id).state is State.CANCELLED


def test_after_the_last_attempt_a_job_is_quarantined(jobs: JobRepository, add_job: AddJob, clock) -> None:
    job_id = add_job().id
    for _ in range(3):
        assert jobs.claim(Stage.PREPARE, "killed") is not None
        clock.advance(31)
    assert jobs.claim(Stage.PREPARE, "next") is None
    assert jobs.reap(ring_again_s=60).quarantined == (job_id,)
    job = jobs.get(job_id)
    assert job.state is State.FAILED
    assert job.error.code == "quarantined"
    assert "the worker was lost" in job.error.message


def test_a_job_given_back_keeps_its_attempts_unless_the_worker_was_shut_down(
    jobs: JobRepository, add_job: AddJob
) -> None:
    add_job()
    for counts, attempts in ((False, 1), (True, 1), (True, 2)):
        job, lease = jobs.claim(Stage.PREPARE, "w")
        assert job.attempts == attempts
        jobs.release(lease, "OSError", counts=counts)
    assert jobs.claim(Stage.PREPARE, "w")[0].attempts == 3


def test_a_stage_has_attempts_of_its_own(jobs: JobRepository, add_job: AddJob, clock) -> None:
    add_job()
    jobs.claim(Stage.PREPARE, "killed")
    clock.advance(31)
    finish(jobs, stages=1)
    assert jobs.claim(Stage.PREDICT, "w")[0].attempts == 1


def test_a_failed_job_keeps_its_error(jobs: JobRepository, add_job: AddJob) -> None:
    job_id = add_job().id
    _, lease = jobs.claim(Stage.PREPARE, "w")
    jobs.fail(lease, FAULT)
    assert jobs.get(job_id).error == FAULT


def test_a_purged_job_leaves_only_that_it_was(
    jobs: JobRepository, add_job: AddJob, engine: Engine, tmp_path: Path
) -> None:
    job = add_job(structures={"Larynx": "CANARY"})
    jobs.purge(job.id)
    for act in (jobs.get, jobs.request_cancel, jobs.requeue, jobs.purge, lambda job_id: jobs.events(job_id, 0)):
        with pytest.raises(JobPurged):
            act(job.id)
    assert jobs.page(state=None, limit=10, cursor=None) == ([], None)
    assert jobs.forgotten([job.id, "unknown"]) == [job.id, "unknown"]
    # On SQLite it is gone at once, from the write-ahead log too; PostgreSQL's own vacuum comes later
    engine.dispose()
    assert b"CANARY" not in b"".join(path.read_bytes() for path in tmp_path.glob("jobs.sqlite*"))


def test_the_worker_of_a_purged_job_is_stopped(jobs: JobRepository, add_job: AddJob) -> None:
    job_id = add_job().id
    _, lease = jobs.claim(Stage.PREPARE, "w")
    jobs.purge(job_id)
    assert jobs.report(lease, Progress()) is Standing.CANCEL
    jobs.stop(lease)
    assert jobs.is_purged(job_id)


def test_pages_newest_first_without_gaps(jobs: JobRepository, add_job: AddJob) -> None:
    ids = [add_job().id for _ in range(5)]
    pages, cursor = [], None
    while True:
        page, cursor = jobs.page(state=None, limit=2, cursor=cursor)
        pages.append([job.id for job in page])
        add_job()
        if cursor is None:
            break
    assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]
    for cursor in ("nonsense", base64.urlsafe_b64encode(b"2026-01-01T00:00:00+00:00 a\0b").decode()):
        with pytest.raises(ParametersError):
            jobs.page(state=None, limit=2, cursor=cursor)


def test_pages_by_state(jobs: JobRepository, add_job: AddJob) -> None:
    done = add_job()
    finish(jobs)
    add_job()
    assert [job.id for job in jobs.page(state=State.SUCCEEDED, limit=9, cursor=None)[0]] == [done.id]
    assert jobs.counts()[State.QUEUED] == 1


def test_an_idempotency_key_makes_one_job(jobs: JobRepository, examination: Examination) -> None:
    def post(job_id: str, content: str) -> Job:
        return jobs.add(job_id, Parameters(), examination, content_sha256=content, idempotency_key="key")

    first = post("a", "study")
    assert post("b", "study").id == first.id == "a"
    with pytest.raises(KeyReused):
        post("c", "another study")
    jobs.purge("a")
    assert post("d", "study").id == "d"


def test_workers_are_alive_for_a_while(jobs: JobRepository, clock) -> None:
    jobs.hear("w", stages=[Stage.PREDICT])
    assert jobs.figures(silent_s=30).workers == {Stage.PREPARE: 0, Stage.PREDICT: 1, Stage.PUBLISH: 0}
    clock.advance(31)
    assert not any(jobs.figures(silent_s=30).workers.values())


def test_eta_follows_the_predict_stage(jobs: JobRepository, add_job: AddJob, clock) -> None:
    add_job()
    finish(jobs, stages=1)
    job, lease = jobs.claim(Stage.PREDICT, "w")
    assert job.remaining_s(clock()) is None
    clock.advance(9)
    jobs.report(lease, Progress(0.5, 5, 10))
    job = jobs.get(job.id)
    assert job.fraction == pytest.approx(0.5)
    # Nine seconds took the job from 5 % to 50 %, the other half takes ten
    assert job.remaining_s(clock()) == pytest.approx(10)


def test_a_failed_job_can_be_done_again_from_its_beginning(jobs: JobRepository, add_job: AddJob) -> None:
    job = add_job()
    finish(jobs, stages=1)
    _, lease = jobs.claim(Stage.PREDICT, "w")
    jobs.fail(lease, FAULT)
    again = jobs.requeue(job.id)
    assert (again.state, again.error, again.attempts, again.outputs) == (State.QUEUED, None, 0, {})
    assert (again.started_at, again.finished_at, again.warnings) == (None, None, ("a warning",))
    assert again.revision > job.revision
    # Its tokens go on growing, so that nothing of the first life counts in the second
    assert jobs.claim(Stage.PREPARE, "w")[1].token == lease.token + 1
    with pytest.raises(LeaseLost):
        jobs.fail(lease, FAULT)


def test_only_a_failed_job_can_be_done_again(jobs: JobRepository, add_job: AddJob) -> None:
    waiting, cancelled = add_job().id, add_job().id
    jobs.request_cancel(cancelled)
    for job_id in (waiting, cancelled):
        with pytest.raises(RequeueRefused):
            jobs.requeue(job_id)
    finish(jobs)
    with pytest.raises(RequeueRefused):
        jobs.requeue(waiting)


def test_the_same_study_again_is_another_job_that_names_the_first(
    jobs: JobRepository, examination: Examination, clock
) -> None:
    def post(job_id: str, fingerprint: str) -> Job:
        clock.advance(1)
        return jobs.add(job_id, Parameters(), examination, content_sha256="c", fingerprint=fingerprint)

    assert post("a", "same").duplicate_of is None
    assert post("b", "other").duplicate_of is None
    assert post("c", "same").duplicate_of == "a"
    assert post("d", "same").duplicate_of == "c"
    jobs.request_cancel("d")
    jobs.purge("c")
    assert post("e", "same").duplicate_of == "a"
    assert jobs.get("e").duplicate_of == "a"
    assert post("f", "").duplicate_of is None


def test_every_change_is_an_event_that_can_be_read_again(jobs: JobRepository, add_job: AddJob) -> None:
    job = add_job()
    _, lease = jobs.claim(Stage.PREPARE, "w")
    for progress in (Progress(0.5, 0, 10), Progress(0.5, 0, 10), Progress(0.75, 0, 10)):
        jobs.report(lease, progress)
    jobs.fail(lease, FAULT)
    jobs.requeue(job.id)
    jobs.request_cancel(job.id)
    events = jobs.events(job.id, 0)
    seen = [(event.revision, event.state.value, event.progress.fraction) for event in events]
    assert seen == [
        (1, "queued", 0.0),
        (2, "preparing", 0.0),
        (3, "preparing", 0.5),
        (4, "preparing", 0.75),
        (5, "failed", 0.75),
        (6, "queued", 0.0),
        (7, "cancelled", 0.0),
    ]
    assert [event.error for event in events if event.error] == [FAULT]
    assert jobs.events(job.id, None) == [jobs.get(job.id)] == events[-1:]
    assert [event.revision for event in jobs.events(job.id, 5)] == [6, 7]
    assert jobs.events(job.id, 7) == []
    with pytest.raises(JobNotFound):
        jobs.events("absent", None)


def test_a_job_without_events_is_told_as_it_is(jobs: JobRepository, add_job: AddJob, engine) -> None:
    job = add_job()
    with engine.begin() as connection:
        connection.execute(delete(EventRow))
    assert jobs.events(job.id, None) == jobs.events(job.id, 0) == [job]
    assert jobs.events(job.id, 1) == []


def test_the_eldest_ended_jobs(jobs: JobRepository, add_job: AddJob, clock) -> None:
    first, second, running = (add_job().id for _ in range(3))
    for job_id in (second, first):
        clock.advance(10)
        jobs.request_cancel(job_id)
    assert jobs.eldest_ended(limit=9) == [second, first]
    assert jobs.eldest_ended(limit=1) == [second]
    assert jobs.eldest_ended(before=clock(), limit=9) == [second]
    assert [jobs.retire(job_id) for job_id in (second, second, running, "absent")] == ["default", None, None, None]
    assert jobs.is_purged(second)
    assert not jobs.is_purged(running)


def test_figures_count_what_happened_once_and_keep_it(jobs: JobRepository, add_job: AddJob, clock) -> None:
    done, lost, broken = (add_job().id for _ in range(3))
    clock.advance(7)
    queue = jobs.figures(silent_s=30).queues[Stage.PREPARE]
    assert (queue.waiting, queue.oldest_s, queue.working) == (3, 9, 0)
    for stage in Stage:
        _, lease = jobs.claim(stage, "w")
        clock.advance(3)
        assert jobs.figures(silent_s=30).queues[stage].working == 1
        jobs.advance(lease, stage, output="o")
    job, _ = jobs.claim(Stage.PREPARE, "killed")
    assert job.id == lost
    clock.advance(31)
    # Whoever finds it first, the reaper or another worker
    jobs.reap(ring_again_s=60)
    jobs.claim(Stage.PREPARE, "killed, too")
    clock.advance(31)
    _, lease = jobs.claim(Stage.PREPARE, "w")
    jobs.release(lease, "no space", counts=True)
    jobs.reap(ring_again_s=60)
    _, lease = jobs.claim(Stage.PREPARE, "w")
    jobs.fail(lease, Fault(code="pixel-format", message="", stage="prepare"))
    jobs.purge(done)

    counted = jobs.figures(silent_s=30).counted
    assert counted[Tally.ENDED, "succeeded"] == {"": 1}
    assert counted[Tally.ENDED, "failed"] == {"": 2}
    assert counted[Tally.FAILED, "quarantined"] == counted[Tally.FAILED, "pixel-format"] == {"": 1}
    assert counted[Tally.LEASE_LOST, "prepare"] == {"": 2}
    assert counted[Tally.GIVEN_BACK, "prepare"] == {"": 1}
    assert counted[Tally.STAGE_SECONDS, "predict"] == {"5": 1, "sum": 3}
    assert counted[Tally.JOB_SECONDS, ""] == {"20": 1, "sum": 18}
    assert broken in {job.id for job in jobs.page(state=State.FAILED, limit=9, cursor=None)[0]}


def test_the_time_of_a_job_done_again_begins_anew(jobs: JobRepository, add_job: AddJob, clock) -> None:
    job_id = add_job().id
    _, lease = jobs.claim(Stage.PREPARE, "w")
    jobs.fail(lease, Fault(code="internal", message="", stage="prepare"))
    clock.advance(1000)
    jobs.requeue(job_id)
    clock.advance(3)
    for stage in Stage:
        _, lease = jobs.claim(stage, "w")
        jobs.advance(lease, stage, output="o")
    assert jobs.figures(silent_s=30).counted[Tally.JOB_SECONDS, ""] == {"5": 1, "sum": 3}


def test_workers_that_count_at_once_lose_no_count(jobs: JobRepository, add_job: AddJob) -> None:
    for _ in range(8):
        add_job()

    def work() -> None:
        while (claimed := jobs.claim(Stage.PREPARE, "w")) is not None:
            jobs.advance(claimed[1], Stage.PREPARE, output="o")

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert jobs.figures(silent_s=30).counted[Tally.STAGE_SECONDS, "prepare"] == {"1": 8, "sum": 0}
