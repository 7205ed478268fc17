import itertools

import pytest

from service.jobs.states import FINAL, Event, IllegalTransition, State, after

ALLOWED = {
    ("queued", "started"): "preparing",
    ("preparing", "prepared"): "predicting",
    ("predicting", "predicted"): "publishing",
    ("publishing", "published"): "succeeded",
    ("failed", "requeued"): "queued",
    ("queued", "failed"): "failed",
    ("preparing", "failed"): "failed",
    ("predicting", "failed"): "failed",
    ("publishing", "failed"): "failed",
    ("queued", "cancelled"): "cancelled",
    ("preparing", "cancelled"): "cancelled",
    ("predicting", "cancelled"): "cancelled",
    ("publishing", "cancelled"): "cancelled",
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_state_with_every_event(state: State, event: Event) -> None:
    expected = ALLOWED.get((state.value, event.value))
    if expected is None:
        with pytest.raises(IllegalTransition):
            after(state, event)
    else:
        assert after(state, event).value == expected


def test_only_by_being_requeued_is_a_final_state_left() -> None:
    assert {state.value for state in FINAL} == {"succeeded", "failed", "cancelled"}
    left = {pair for pair in ALLOWED if pair[0] in {state.value for state in FINAL}}
    assert left == {("failed", "requeued")}
