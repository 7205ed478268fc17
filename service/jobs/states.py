"""The life of a job as a table of transitions.

::

    queued ──started──> preparing ──prepared──> predicting ──predicted──> publishing ──published──> succeeded
       └──────────────────┴──────────────────────┴─────────────────────────┴──failed──> failed
                                                                           └──cancelled──> cancelled
    failed ──requeued──> queued
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class State(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    PREPARING = "preparing"
    PREDICTING = "predicting"
    PUBLISHING = "publishing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to the job of itself."""
        return self in FINAL


class Event(StrEnum):
    """What can happen to a job."""

    STARTED = "started"
    PREPARED = "prepared"
    PREDICTED = "predicted"
    PUBLISHED = "published"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REQUEUED = "requeued"


class Stage(StrEnum):
    """The three pieces of work on a job; each has a queue of this name."""

    PREPARE = "prepare"
    PREDICT = "predict"
    PUBLISH = "publish"


FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})

TRANSITIONS: Mapping[tuple[State, Event], State] = MappingProxyType(
    {
        (State.QUEUED, Event.STARTED): State.PREPARING,
        (State.PREPARING, Event.PREPARED): State.PREDICTING,
        (State.PREDICTING, Event.PREDICTED): State.PUBLISHING,
        (State.PUBLISHING, Event.PUBLISHED): State.SUCCEEDED,
        (State.FAILED, Event.REQUEUED): State.QUEUED,
    }
    | {(state, Event.FAILED): State.FAILED for state in State if state not in FINAL}
    | {(state, Event.CANCELLED): State.CANCELLED for state in State if state not in FINAL}
)

STAGE_OF: Mapping[State, Stage] = MappingProxyType(
    {
        State.QUEUED: Stage.PREPARE,
        State.PREPARING: Stage.PREPARE,
        State.PREDICTING: Stage.PREDICT,
        State.PUBLISHING: Stage.PUBLISH,
    }
)
"""The work that a job in a state waits for or is in."""

DONE: Mapping[Stage, Event] = MappingProxyType(
    {Stage.PREPARE: Event.PREPARED, Stage.PREDICT: Event.PREDICTED, Stage.PUBLISH: Event.PUBLISHED}
)
"""The event that ends each stage."""


class IllegalTransition(RuntimeError):
    """An event came to a job in a state that has no use for it: a fault of the program, never of a study."""


def after(state: State, event: Event) -> State:
    """Return the state that follows.

    Raises
    ------
    IllegalTransition
        If the table has no such transition.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(f"a {state} job cannot be {event}") from None
