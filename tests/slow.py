"""Which cases of a test a newcomer need not wait for."""

import pytest


def first_is_quick(cases, quick=1):
    """`cases` for parametrize, of which all but the first `quick` are slow."""
    cases = list(cases)
    return cases[:quick] + [pytest.param(case, marks=pytest.mark.slow) for case in cases[quick:]]
