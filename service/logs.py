"""Logs: one JSON object per line, without patient data."""

import json
import logging
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

FIELDS = ("request", "job", "stage", "code", "attempt", "worker", "method", "route", "status", "seconds", "audit")
"""What may be given as ``extra`` or by `about`; nothing else of a record is written besides its message."""

NOISY = ("alembic", "kombu", "matplotlib", "httpx", "httpcore", "celery.app.trace", "celery.worker.strategy")

QUOTING = ("py.warnings", "pydicom", "python_multipart")
"""They quote what was sent: pydicom warns of an odd date of birth by showing it."""


_about: ContextVar[Mapping[str, object]] = ContextVar("about", default={})  # noqa: B039 - never changed in place


@contextmanager
def about(**fields: object) -> Iterator[None]:
    """Say in everything that is logged meanwhile what it is about, whoever logs it."""
    token = _about.set({**_about.get(), **fields})
    try:
        yield
    finally:
        _about.reset(token)


class JsonFormatter(logging.Formatter):
    """Writes a record as JSON.

    Of an exception only its type and the places in the code are written: messages of libraries quote values, and those
    could be a patient's.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Write one line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "source": record.name,
            "message": record.getMessage(),
        }
        known = {**_about.get(), **record.__dict__}
        line |= {field: known[field] for field in FIELDS if known.get(field) is not None}
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = describe(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


def describe(error: BaseException) -> Mapping[str, object]:
    """Say what an exception is and where it came from, without any value."""
    frames = traceback.extract_tb(error.__traceback__)
    return {"type": type(error).__name__, "at": [f"{f.filename}:{f.lineno} {f.name}" for f in frames]}


def configure(level: str) -> None:
    """Send all logs of this process to standard error."""
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[stream], force=True)
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    for quoting in QUOTING:
        logging.getLogger(quoting).setLevel(logging.CRITICAL)
