"""Do estimators, models and evaluators have pyspark.ml's Params, defaults, documentation, getters and setters?"""

import importlib
import inspect

import pytest
from pyspark.ml import Model, pipeline
from pyspark.ml.param import Param, Params

from securemllib import ml
from securemllib.errors import SealedError, UsageError
from securemllib.ml import classification as our_classification
from securemllib.ml.clustering import KMeans
from securemllib.ml.mirror import converted, mirrors, refuse_sealed

MODULES = ("classification", "clustering", "evaluation", "feature", "fpm", "recommendation", "regression")


def mirrored():
    """Return our public classes that stand for one of pyspark.ml, with their original, by name."""
    found = {"Pipeline": (ml.Pipeline, pipeline.Pipeline)}
    for module in MODULES:
        if importlib.util.find_spec(f"securemllib.ml.{module}") is None:
            continue
        ours = importlib.import_module(f"securemllib.ml.{module}")
        classes = [getattr(ours, name) for name in ours.__all__]
        found |= {cls.__name__: (cls, cls.ORIGINAL) for cls in classes if "ORIGINAL" in vars(cls) and issubclass(cls, Params)}
    return found


# Models are made by a fit, everything else by its constructor.
MODELS = {name: pair for name, pair in mirrored().items() if issubclass(pair[0], Model)}
PAIRS = {name: pair for name, pair in mirrored().items() if name not in MODELS}
# `evaluate` of a model is a method of the evaluators here; the others read Java objects or write their own format.
JAVA_ONLY = {"save", "write", "read", "load"}


@pytest.fixture(params=sorted(PAIRS))
def pair(request, spark):
    """One of ours and its original, whose constructor needs the JVM."""
    ours, original = PAIRS[request.param]
    return ours(), original()


def test_params_have_the_same_names_documentation_and_converters(pair):
    """Every Param of pyspark.ml is there with its documentation and type converter, and no other."""
    ours, original = pair
    assert {(param.name, param.doc, param.typeConverter) for param in ours.params} == {
        (param.name, param.doc, param.typeConverter) for param in original.params
    }


def test_defaults_are_the_same(pair):
    """Every Param has pyspark.ml's default, or like there none."""
    ours, original = pair
    own = {"outputCol"}  # made of the instance's own uid

    def defaults(params):
        # A default of NaN equals no other one, but is written like it.
        return {param.name: "NaN" if value != value else value for param, value in params._defaultParamMap.items() if param.name not in own}

    assert defaults(ours) == defaults(original)
    assert {param.name for param in ours._defaultParamMap} == {param.name for param in original._defaultParamMap}


def test_every_getter_and_setter_is_there(pair):
    """Every getX and setX of pyspark.ml can be called by that name."""
    ours, original = pair
    expected = {name for name in dir(original) if name.startswith(("get", "set"))}
    assert expected <= set(dir(ours))


def test_nothing_but_params_is_copied():
    """A getter of a Param is taken over; a method of that form that reads the model is not, and says so when it is asked for."""

    class Original(Params):
        size = Param(Params._dummy(), "size", "How many.")

        def getSize(self):
            return self.getOrDefault(self.size)

        def getVectors(self):
            return self._java_obj.getVectors()

    @mirrors(Original)
    class Ours(Params):
        def __getattr__(self, name):
            return refuse_sealed(self, name, Original)

    ours = Ours()._set(size=3)
    assert ours.getSize() == 3
    with pytest.raises(SealedError, match="getVectors"):
        ours.getVectors()


def test_constructors_take_the_same_keywords(pair):
    """Constructor and setParams have pyspark.ml's signatures, refuse positional arguments and unknown names."""
    ours, original = type(pair[0]), type(pair[1])
    for name in ("__init__", "setParams"):
        assert inspect.signature(getattr(ours, name)).parameters.keys() == inspect.signature(getattr(original, name)).parameters.keys()
    with pytest.raises(TypeError):
        ours("positional")
    with pytest.raises(TypeError):
        ours(noSuchParam=1)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_models_have_the_params_of_their_originals(name):
    """A sealed model class has the Params, getters and setters of pyspark.ml's model."""
    ours, original = MODELS[name]
    public = {
        attribute
        for attribute in dir(original)
        if attribute.startswith(("get", "set")) or type(getattr(original, attribute, None)).__name__ == "Param"
    }
    assert public <= set(dir(ours))


def test_a_set_value_is_read_back():
    """What a constructor or setter was given is what the getter returns, converted as in pyspark.ml."""
    estimator = our_classification.LogisticRegression(maxIter=7, regParam=1)
    assert (estimator.getMaxIter(), estimator.getRegParam()) == (7, 1.0)
    assert estimator.setElasticNetParam(1).getElasticNetParam() == 1.0
    with pytest.raises(TypeError):
        our_classification.LogisticRegression(maxIter="many")


def test_thresholds_must_be_consistent():
    """A threshold that contradicts the thresholds is refused as in pyspark.ml, and a consistent pair is accepted."""
    assert our_classification.LogisticRegression(threshold=0.25, thresholds=[0.75, 0.25]).getThreshold() == 0.25
    with pytest.raises(ValueError, match="inconsistent"):
        our_classification.LogisticRegression(threshold=0.5, thresholds=[0.75, 0.25])


@pytest.mark.parametrize("name", ["seed", "maxIter"])
def test_params_of_more_than_64_bits_are_refused(name):
    """A Param that no integer of Java holds is a mistake of the call, not a broken message."""
    assert converted(KMeans(**{name: 2**31 - 1}), name) == 2**31 - 1
    with pytest.raises(UsageError) as refused:
        converted(KMeans(**{name: 2**70}), name)
    assert refused.value.error_code == "usage.param"
