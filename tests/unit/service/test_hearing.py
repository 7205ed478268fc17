"""Whether a worker is taken for deaf."""

import pytest

from service.jobs.states import Stage
from service.worker.hearing import Hearing, WorkerDeaf


def hearing(bell, *, idle_s: float, deaf_s: float) -> Hearing:
    return Hearing(bell, (Stage.PREPARE, Stage.PREDICT), lambda: idle_s, deaf_s=deaf_s)


def test_a_worker_that_lets_rings_wait_without_work_is_deaf(bell) -> None:
    bell.not_heard = 1
    one = hearing(bell, idle_s=5, deaf_s=0)
    with pytest.raises(WorkerDeaf):
        one.look(), one.look()


@pytest.mark.parametrize(("not_heard", "idle_s"), [(0, 5), (1, 0)])
def test_a_worker_without_rings_or_with_work_is_not(bell, not_heard, idle_s) -> None:
    bell.not_heard = not_heard
    one = hearing(bell, idle_s=idle_s, deaf_s=0)
    one.look(), one.look()


def test_an_idle_worker_gets_time_to_come(bell) -> None:
    one = hearing(bell, idle_s=5, deaf_s=1)
    # While nothing rang it was not deaf
    one.look()
    bell.not_heard = 1
    one.look(), one.look()
