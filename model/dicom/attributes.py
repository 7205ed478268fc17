"""Attribute values of data sets that may be wrong: absent, empty, of another type or of another length."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.multival import MultiValue

ESCAPE_SEQUENCE = re.compile(r"\x1b[ -/]+[0-~]")
"""Change of character set within a text (ISO 2022); the library decodes what follows, and leaves some of them in."""


def text(dataset: Dataset, keyword: str) -> str:
    """Value as stripped text, several values joined by a backslash; empty if absent."""
    value = dataset.get(keyword)
    if value is None:
        return ""
    joined = "\\".join(map(str, value)).strip() if isinstance(value, MultiValue) else str(value).strip("\0 ")
    return ESCAPE_SEQUENCE.sub("", joined)


IDENTIFIER = re.compile(r"[0-9A-Za-z_-]*\.[0-9A-Za-z._-]*")
LONGEST_IDENTIFIER = 64
"""Characters of a UID (PS3.5 section 9)."""


def uid(dataset: Dataset, keyword: str) -> str:
    """Value of a UID; empty if it is absent or identifies nothing, as "0" does.

    Nor does what no UID can hold: after a wrong length the value may be all that follows in the file, and UIDs are
    shown to callers.
    """
    value = text(dataset, keyword)
    return value if len(value) <= LONGEST_IDENTIFIER and IDENTIFIER.fullmatch(value) else ""


def numbers(dataset: Dataset, keyword: str, count: int) -> NDArray[np.float64] | None:
    """Exactly ``count`` finite numbers, None if that is not what is there."""
    try:
        values = np.atleast_1d(np.asarray(dataset.get(keyword), dtype=np.float64))
    except (TypeError, ValueError):
        return None
    return values if values.shape == (count,) and bool(np.isfinite(values).all()) else None


def number(dataset: Dataset, keyword: str) -> float | None:
    """One finite number, None if that is not what is there."""
    values = numbers(dataset, keyword, 1)
    return None if values is None else float(values[0])


def integer(dataset: Dataset, keyword: str) -> int | None:
    """One whole number, None if that is not what is there."""
    value = number(dataset, keyword)
    return int(value) if value is not None and value == int(value) else None


def items(dataset: Dataset, keyword: str) -> Sequence[Dataset]:
    """Items of a sequence; none if it is absent or empty."""
    value = dataset.get(keyword)
    return [item for item in value if isinstance(item, Dataset)] if isinstance(value, Sequence) else []


def date_time(dataset: Dataset, date_keyword: str, time_keyword: str) -> str:
    """Date and time as text that sorts by age; those of the instance's creation where the named ones are no date."""
    for date, time in ((date_keyword, time_keyword), ("InstanceCreationDate", "InstanceCreationTime")):
        # Pseudonymisation leaves anything in the place of a date
        if re.fullmatch(r"[0-9]{8}", text(dataset, date)):
            return text(dataset, date) + text(dataset, time)
    return ""
