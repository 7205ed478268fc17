"""Every error that DiffDP raises on purpose.

::

    DiffDPError
    ├── StudyError            the DICOM study cannot be used (a named rule of docs/refusals.md)
    │   └── SiteError         the study is sound, but this model does not know its site
    ├── CheckpointError       a checkpoint is missing, damaged or of another kind
    ├── DeviceError           the requested device is not there
    ├── PredictionError       the network's output cannot be used
    ├── DatasetError          training data cannot be read
    ├── GoalsError            a file of clinical goals cannot be used
    └── Cancelled             somebody asked to stop: a state, not a failure

Each has a stable ``code``, the ``stage`` in which it arises, whether ``retry`` may help, and a message that holds no
patient data: ROI names, UIDs and numbers are allowed, names and identifiers of patients are not.
"""

import errno
from typing import ClassVar


def is_fault_of_the_machine(error: OSError) -> bool:
    """Whether an error tells of the disk or the system, and not of what stands in a file.

    What readers raise about a file's content bears no number, or that of a place which cannot be, such as one before
    the file's start.
    """
    return error.errno not in {None, errno.EINVAL, errno.EOVERFLOW}


class DiffDPError(Exception):
    """Base of all deliberate errors.

    Parameters
    ----------
    message
        One sentence a user can act on; no patient data.
    code
        Stable name of the rule that was broken, overriding the class's own.
    details
        What was found and what was expected, JSON-serialisable, no patient data.
    """

    code: ClassVar[str] = "error"
    stage: ClassVar[str] = "any"
    retry: ClassVar[bool] = False

    def __init__(self, message: str, *, code: str | None = None, details: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.rule = code or self.code
        self.details = details or {}


class StudyError(DiffDPError):
    """A study breaks a rule of the intake; ``rule`` names it."""

    code = "study-invalid"
    stage = "intake"


class SiteError(StudyError):
    """The study's structures or prescription do not fit the site of the model."""

    code = "site-unknown"


class CheckpointError(DiffDPError):
    """A checkpoint is missing, damaged or of another kind."""

    code = "checkpoint-invalid"
    stage = "start"


class DeviceError(DiffDPError):
    """The requested device is not there; DiffDP never falls back in silence."""

    code = "device-unavailable"
    stage = "predict"
    retry = True


class PredictionError(DiffDPError):
    """The network's output cannot be used, for example because it is not finite."""

    code = "prediction-invalid"
    stage = "predict"


class DatasetError(DiffDPError):
    """Training data cannot be read."""

    code = "dataset-invalid"
    stage = "train"


class GoalsError(DiffDPError):
    """A file of clinical goals cannot be used."""

    code = "goals-invalid"
    stage = "start"


class Cancelled(DiffDPError):
    """Somebody asked to stop."""

    code = "cancelled"
