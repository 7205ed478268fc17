"""Tests of significance against published numbers and scipy's own."""

import numpy as np
import pytest
from scipy import stats

from model.evaluation.statistics import paired_tests, summary

# Hours of sleep gained by two drugs ("Student", Biometrika 6, 1908, 1-25): paired t = 4.06 on 9 degrees of freedom.
FIRST = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SECOND = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def test_students_sleep():
    tests = paired_tests(FIRST, SECOND)
    assert tests.t == pytest.approx(0.00283, abs=5e-6)
    assert tests == paired_tests(SECOND, FIRST)
    assert summary(FIRST) == pytest.approx((0.75, 1.789010, 10), abs=1e-6)


def test_wilcoxon_by_counting():
    # Differences 1, 2, 3, 4, 5, −6: of the 64 choices of signs, 14 have a sum of negative ranks of at most 6.
    assert paired_tests([1, 2, 3, 4, 5, -6], [0] * 6).wilcoxon == pytest.approx(2 * 14 / 64)
    # Equal pairs are left out.
    assert paired_tests([1, 2, 3, 4, 5, -6, 7], [0] * 6 + [7]).wilcoxon == pytest.approx(2 * 14 / 64)
    assert paired_tests([1, 2, 3, 4, 5, 6], [0] * 6).wilcoxon == pytest.approx(2 / 64)


@pytest.mark.parametrize("patients", [2, 3, 10, 60])
def test_agrees_with_scipy(patients):
    one, other = np.random.default_rng(patients).normal(size=(2, patients))
    tests = paired_tests(one, other)
    assert tests.t == pytest.approx(stats.ttest_rel(one, other).pvalue)
    assert tests.wilcoxon == pytest.approx(stats.wilcoxon(one, other).pvalue)


def test_patients_without_a_value_do_not_count():
    nan = float("nan")
    assert paired_tests([*FIRST, nan, 3, nan], [*SECOND, 2, nan, nan]) == paired_tests(FIRST, SECOND)
    assert summary([nan, *FIRST]) == summary(FIRST)


@pytest.mark.parametrize("values", [[], [1.0], [np.nan, 1.0], [0.0, 0.0, 0.0]])
def test_too_few_patients_and_no_difference_say_nothing(values):
    assert np.isnan(paired_tests(values, np.zeros(len(values)))).all()


def test_the_same_difference_everywhere_leaves_only_the_ranks():
    tests = paired_tests([1.5] * 6, [1.0] * 6)
    assert np.isnan(tests.t)
    assert tests.wilcoxon < 0.05


def test_summaries_of_few():
    assert summary([2.0])[::2] == (2.0, 1)
    assert np.isnan(summary([2.0]).sd)
    assert np.isnan(summary([]).mean)
    assert summary([np.nan]).patients == 0
