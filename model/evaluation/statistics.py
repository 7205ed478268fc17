"""Mean, spread and significance over patients. Patients without a value, NaN, do not count."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


class Summary(NamedTuple):
    """Mean and sample standard deviation (n − 1) of a figure over patients, and how many have it.

    The mean of none and the deviation of fewer than two are NaN.
    """

    mean: float
    sd: float
    patients: int


class PairedTests(NamedTuple):
    """Two-sided p-values for two systems being equal on the same patients; NaN where a test says nothing."""

    t: float
    wilcoxon: float


def summary(values: ArrayLike) -> Summary:
    """Summarise a figure over patients, (patients,)."""
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    mean = float(known.mean()) if known.size else float("nan")
    return Summary(mean, float(known.std(ddof=1)) if known.size > 1 else float("nan"), known.size)


def paired_tests(values: ArrayLike, others: ArrayLike) -> PairedTests:
    """Paired t-test and Wilcoxon signed-rank test of one system against another.

    The Wilcoxon test leaves out patients in whom both are equal.

    Parameters
    ----------
    values, others
        (patients,) a figure of the two systems, in the same order of patients.

    Returns
    -------
    PairedTests
        Both NaN for fewer than two patients and where all differences are 0; the t-test's also where all differences
        are the same, for then it has no spread to measure them by.
    """
    differences = np.asarray(values, np.float64) - np.asarray(others, np.float64)
    differences = differences[~np.isnan(differences)]
    patients = differences.size
    if patients < 2 or not differences.any():
        return PairedTests(float("nan"), float("nan"))
    error = differences.std(ddof=1) / np.sqrt(patients)
    t = float(2.0 * stats.t.sf(abs(differences.mean()) / error, patients - 1)) if error else float("nan")
    return PairedTests(t, float(stats.wilcoxon(differences[differences != 0]).pvalue))
