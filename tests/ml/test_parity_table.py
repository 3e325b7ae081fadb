"""The parity page: what it says of Params is what happens, and no Param is accepted and ignored."""

import importlib
import inspect
import sys
from pathlib import Path

import pytest

from securemllib.algorithms.registry import ALGORITHMS, TRANSFORMERS
from securemllib.errors import UsageError
from securemllib.ml.checks import job_params

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs" / "_extensions"))

import parity

ROWS = [parity.parity(module, name, original) for module in parity.MODULES for name, original in parity.classes(module)]
REFUSED = [(row.name, row.ours, param) for row in ROWS for param in row.refused]


def other_value(value):
    """Return a value of the same type that is not the default."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return [*value, "x"]
    if isinstance(value, int | float):
        # One more than a large float is that float.
        return value + 1 if value + 1.0 != value else value / 2
    return f"{value}x"


@pytest.mark.parametrize(("ours", "param"), [row[1:] for row in REFUSED], ids=[f"{row[0]}-{row[2]}" for row in REFUSED])
def test_a_param_without_effect_is_refused_where_it_is_set(ours, param):
    """A Param that the page lists as refused raises before a job is sent, and its default does not."""
    instance = ours()
    job_default = other_value(instance.getOrDefault(param)) if instance.isDefined(param) else 1
    instance._set(**{param: job_default})
    with pytest.raises(UsageError) as refused:
        job_params(ours.__name__, instance)
    assert refused.value.error_code == "usage.unsupported"


def test_every_operation_is_a_class_of_the_page():
    """Every algorithm and transformer that has a name of pyspark.ml has its class there."""
    missing = {row.name for row in ROWS if row.ours is None}
    assert (set(ALGORITHMS) | set(TRANSFORMERS)) & missing == set()


def test_the_page_counts_what_is_there():
    """The page says same for a class that is complete and missing for one that is not there."""
    statuses = {row.name: row.status for row in ROWS}
    assert statuses["StandardScaler"] == "same"
    assert parity.parity("feature", "NotBuilt", object).status == "missing"
    assert statuses["LogisticRegression"] == "differs"


def test_what_is_read_after_a_release_is_there():
    """No attribute is called absent that what `release` returns has, of models of trees neither; results of transformers have notes."""
    models = {row.name: row for row in ROWS if row.name.endswith("Model") and row.ours is not None}
    assert {row.absent for name, row in models.items() if "Tree" in name or "Forest" in name or "GBT" in name} == {()}
    assert any("RegexTokenizer" in names for names in parity._notes().values())


@pytest.mark.parametrize("module", [module for module in parity.MODULES if importlib.util.find_spec(f"securemllib.ml.{module}")])
def test_our_public_names_are_pysparks(module):
    """A module here exports no class that pyspark.ml's module of that name does not have."""
    ours = importlib.import_module(f"securemllib.ml.{module}")
    originals = importlib.import_module(f"pyspark.ml.{module}")
    exported = {name for name in ours.__all__ if inspect.isclass(getattr(ours, name))}
    assert {name for name in exported if not hasattr(originals, name)} == set()
