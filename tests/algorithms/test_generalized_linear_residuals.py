"""Are the residuals of a generalized linear model those that are published, row by row, and refused where they are none?"""

import numpy as np
import pyarrow as pa
import pytest

from securemllib.algorithms.registry import build_transformer
from securemllib.algorithms.transformer import Column
from securemllib.errors import DataError, UsageError

# Counts of a randomised trial, three outcomes by three treatments, in: A. J. Dobson, An Introduction to Generalized Linear Models (1990),
# page 93, the example of R's `glm`. The treatments have equal sums, so a mean is that of the counts of its outcome.
COUNTS = [18.0, 17.0, 15.0, 20.0, 10.0, 20.0, 25.0, 13.0, 12.0]
MEANS = [21.0, 40.0 / 3.0, 47.0 / 3.0] * 3
# What R prints of that example.
DEVIANCE = [-0.67125, 0.96272, -0.16965, -0.21999, -0.95552, 1.04939, 0.84715, -0.09167, -0.96656]


def residuals(kind, *columns, **params):
    """Return the residuals of a label, its predicted means and, where there is a third column, its weights."""
    made = build_transformer("GeneralizedLinearResiduals", {"residualsType": kind, **params})
    found = made.transform(tuple(Column(pa.array(column, pa.float64())) for column in columns)).columns
    assert list(found) == ["output"]
    return found["output"].values.to_pylist()


def test_deviance_residuals_are_those_that_r_prints():
    """Those of Dobson's counts are R's to its five digits, and their squares add up to the deviance 5.1291."""
    found = residuals("deviance", COUNTS, MEANS, family="poisson")
    assert found == pytest.approx(DEVIANCE, abs=5e-6)
    assert np.square(found).sum() == pytest.approx(5.1291, abs=5e-5)


def test_other_residuals_are_differences_in_their_units():
    """Pearson's are in deviations of the label, working ones in units of the linear predictor; a perfect fit has 0 in every type."""
    count, mean = np.array(COUNTS), np.array(MEANS)
    assert residuals("pearson", COUNTS, MEANS, family="poisson") == pytest.approx((count - mean) / np.sqrt(mean))
    assert residuals("working", COUNTS, MEANS, family="poisson") == pytest.approx((count - mean) / mean)
    assert residuals("working", COUNTS, MEANS, family="Poisson", link="Identity") == pytest.approx(count - mean)
    assert residuals("working", COUNTS, MEANS, family="poisson", link="sqrt") == pytest.approx((count - mean) / (2.0 * np.sqrt(mean)))
    assert residuals("pearson", [1.0, 0.0], [0.8, 0.8], family="binomial") == pytest.approx([0.5, -2.0])
    assert residuals("working", [1.0, 0.0], [0.8, 0.8], family="binomial") == pytest.approx([1.25, -5.0])
    assert residuals("deviance", [1.0, 0.0], [0.8, 0.8], family="binomial") == pytest.approx(
        [np.sqrt(-2.0 * np.log(0.8)), -np.sqrt(-2.0 * np.log(0.2))]
    )
    assert residuals("pearson", COUNTS, MEANS, family="tweedie", variancePower=1.5) == pytest.approx((count - mean) / mean**0.75)
    assert residuals("working", COUNTS, MEANS, family="tweedie", variancePower=1.5, linkPower=0.0) == pytest.approx((count - mean) / mean)
    for kind in ("deviance", "pearson", "working"):
        for family in ("gaussian", "poisson", "gamma", "binomial"):
            assert residuals(kind, [0.25, 0.5], [0.25, 0.5], family=family) == pytest.approx([0.0, 0.0])


def test_weights_count_in_all_but_working_residuals():
    """A row of weight 4 has twice the deviance and Pearson residual of one of weight 1, and the same working residual."""
    for kind, ratio in (("deviance", 2.0), ("pearson", 2.0), ("working", 1.0)):
        once, weighted = residuals(kind, COUNTS, MEANS, family="gamma"), residuals(kind, COUNTS, MEANS, [4.0] * 9, family="gamma")
        assert weighted == pytest.approx(ratio * np.array(once))


@pytest.mark.parametrize("column", range(3))
def test_a_row_with_a_null_has_no_residual(column):
    """A null label, prediction or weight makes a null; the other row has its number."""
    columns = [[1.0, 1.0], [0.5, 0.5], [1.0, 1.0]]
    columns[column][0] = None
    assert residuals("pearson", *columns) == [None, pytest.approx(0.5)]


def test_what_is_no_residual_is_refused():
    """An unknown type, family or link and a wrong number of columns are refused; the twins above are not."""
    for params in (
        {"residualsType": "response"},
        {"residualsType": "pearson", "family": "cauchy"},
        {"residualsType": "pearson", "link": 3},
    ):
        with pytest.raises(UsageError) as found:
            build_transformer("GeneralizedLinearResiduals", params)
        assert found.value.error_code == "usage.param"
    for columns in ([[1.0]], [[1.0]] * 4):
        with pytest.raises(DataError) as found:
            residuals("pearson", *columns)
        assert found.value.error_code == "data.length"
