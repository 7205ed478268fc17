"""Every error that the service raises on purpose; all are `DiffDPError`, so that one place maps them to answers.

::

    DiffDPError
    ├── UploadError           the request's body is not what it says
    │   ├── UploadTooLarge    a limit of the intake is exceeded
    │   ├── UploadTooSlow     the body does not come on
    │   └── MediaTypeError    the body is of a type that the intake does not read
    ├── StudyError
    │   └── StudyUnreadable   reading the study failed in a way that no rule names
    ├── ParametersError       a parameter is unknown or out of range
    ├── KeyReused             an idempotency key came back with another request
    ├── QueueFull             too many jobs wait
    ├── JobNotFound           there is no such job
    ├── JobPurged             the job was deleted
    ├── ModelNotFound         there is no such model
    ├── RequeueRefused        only a failed job can be done again
    ├── CallbackRefused       a call back to this address is not allowed
    ├── ResultsNotReady       the job has no results yet, or never will
    ├── ResultAbsent          the job has results, but not this one
    ├── Unauthorised          no valid API key or token came with the request
    ├── HostUnknown           a server without keys is called by a name that is not local
    ├── Forbidden             the key or token does not allow it
    ├── TooManyRequests       the caller calls too often
    ├── IssuerUnavailable     the issuer of bearer tokens does not answer
    ├── KeyNotFound           there is no such API key
    ├── AuditBroken           the audit log was changed
    ├── NotAcceptable         no form of the answer suits the caller
    └── LeaseLost             another worker has taken the job over
"""

from model.errors import DiffDPError, StudyError


class UploadError(DiffDPError):
    """The request's body is not what it says."""

    code = "body-invalid"
    stage = "intake"


class UploadTooLarge(UploadError):
    """A limit of the intake is exceeded."""

    code = "body-too-large"


class UploadTooSlow(UploadError):
    """The body does not come on."""

    code = "body-too-slow"
    retry = True


class MediaTypeError(UploadError):
    """The body is of a type that the intake does not read."""

    code = "media-type-unsupported"


class StudyUnreadable(StudyError):
    """Reading the study failed in a way that no rule names."""

    code = "study-unreadable"


class ParametersError(DiffDPError):
    """A parameter is unknown or out of range."""

    code = "parameters-invalid"
    stage = "intake"


class KeyReused(DiffDPError):
    """An idempotency key came back with another request."""

    code = "idempotency-key-reused"
    stage = "intake"


class QueueFull(DiffDPError):
    """Too many jobs wait; later there will be room."""

    code = "queue-full"
    stage = "intake"
    retry = True


class JobNotFound(DiffDPError):
    """There is no such job."""

    code = "job-not-found"


class JobPurged(DiffDPError):
    """The job was deleted with all its data."""

    code = "job-purged"


class ModelNotFound(DiffDPError):
    """There is no such model."""

    code = "model-not-found"


class RequeueRefused(DiffDPError):
    """Only a failed job can be done again."""

    code = "job-not-failed"


class CallbackRefused(DiffDPError):
    """A call back to this address is not allowed."""

    code = "callback-refused"
    stage = "intake"


class ResultsNotReady(DiffDPError):
    """The job has no results yet, or never will."""

    code = "results-not-ready"
    retry = True


class ResultAbsent(DiffDPError):
    """The job has results, but not this one."""

    code = "result-absent"


class Unauthorised(DiffDPError):
    """No valid API key or token came with the request."""

    code = "unauthorised"


class HostUnknown(DiffDPError):
    """A server without keys is called by a name that is not local."""

    code = "host-unknown"


class Forbidden(DiffDPError):
    """The key or token does not allow it."""

    code = "forbidden"


class TooManyRequests(DiffDPError):
    """The caller calls too often."""

    code = "rate-limited"
    retry = True


class IssuerUnavailable(DiffDPError):
    """The issuer of bearer tokens does not answer, so that none can be checked."""

    code = "issuer-unavailable"
    retry = True


class KeyNotFound(DiffDPError):
    """There is no such API key."""

    code = "key-not-found"


class AuditBroken(DiffDPError):
    """The audit log was changed."""

    code = "audit-broken"


class NotAcceptable(DiffDPError):
    """No form of the answer suits the caller."""

    code = "not-acceptable"


class LeaseLost(DiffDPError):
    """Another worker has taken the job over; whatever this one still does must not count."""

    code = "lease-lost"
