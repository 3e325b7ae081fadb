"""Our `fit` through Spark beside libraries for one machine: scikit-learn on one thread, and xgboost on as many as Spark has task slots.

They get what they like best: the rows as one array in this process's memory, in single precision.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import quality
from generators import Data, two_classes
from quality import Fitted
from threadpoolctl import threadpool_limits
from workload import Workload
from workloads import WORKLOADS

__all__ = ["Library", "libraries"]

_MILLION = 1_000_000
_CLUSTERS, _TREES, _DEPTH, _BINS = 10, 20, 5, 32

Fit = Callable[[np.ndarray, np.ndarray | None, int], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A library beside one workload.

    Attributes:
        name: The library and its threads.
        workload: What both train.
        fit: From features, label and the number of the run to the trained model.
        quality: Of the data and the library's model, what the workload's quality is of ours.
        target: The ratio of our wall time to its.
    """

    name: str
    workload: Workload
    fit: Fit
    quality: Callable[[Data, Any], float]
    target: float


def libraries(cores: int) -> dict[str, Library]:
    """Return the libraries by the workload that names them."""
    bayes = replace(
        WORKLOADS["naive_bayes"], name="gaussian_bayes", rows=_MILLION, columns=50, generate=two_classes, form="assembled",
        estimator=lambda api, _: api.NaiveBayes(modelType="gaussian"), read=_read_gaussians, quality=_gaussian_accuracy,
    )  # fmt: skip
    found = {
        "logistic_regression": (_logistic_regression, _linear_loss),
        "kmeans": (_kmeans, _cost),
        "random_forest": (_random_forest, _accuracy),
    }
    sklearn = [
        Library(name="scikit-learn, one thread", workload=replace(WORKLOADS[name], rows=_MILLION), fit=_alone(fit), quality=of, target=1.0)
        for name, (fit, of) in found.items()
    ]
    sklearn.append(Library(name="scikit-learn, one thread", workload=bayes, fit=_alone(_naive_bayes), quality=_accuracy, target=1.0))
    boosting = [
        Library(
            name=f"xgboost hist, {cores} threads", workload=WORKLOADS[name], fit=partial(_boosting, cores), quality=_accuracy, target=1.5
        )
        for name in ("gbt", "gbt_wide")
    ]
    return {"naive_bayes" if each.workload is bayes else each.workload.name: each for each in (*sklearn, *boosting)}


def _alone(fit: Fit) -> Fit:
    def limited(features: np.ndarray, label: np.ndarray | None, number: int) -> Any:
        with threadpool_limits(1):
            return fit(features, label, number)

    return limited


def _logistic_regression(features: np.ndarray, label: np.ndarray, number: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    # MLlib's objective is a mean and regParam / 2 of the squares, scikit-learn's C times the sum and half the squares.
    return LogisticRegression(C=1.0 / (0.01 * len(label)), tol=1e-6, max_iter=100, random_state=number).fit(features, label)


def _kmeans(features: np.ndarray, _: None, number: int) -> Any:
    from sklearn.cluster import KMeans

    return KMeans(n_clusters=_CLUSTERS, n_init=1, max_iter=10, tol=0.0, random_state=number).fit(features)


def _random_forest(features: np.ndarray, label: np.ndarray, number: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=_TREES, max_depth=_DEPTH, n_jobs=1, random_state=number).fit(features, label)


def _naive_bayes(features: np.ndarray, label: np.ndarray, _: int) -> Any:
    from sklearn.naive_bayes import GaussianNB

    return GaussianNB().fit(features, label)


def _boosting(cores: int, features: np.ndarray, label: np.ndarray, number: int) -> Any:
    from xgboost import XGBClassifier

    # Spark's tasks are told to use one thread each by a variable that this library reads, too.
    params = {"n_estimators": _TREES, "max_depth": _DEPTH, "max_bin": _BINS, "learning_rate": 0.1, "tree_method": "hist"}
    with threadpool_limits(cores, user_api="openmp"):
        return XGBClassifier(**params, n_jobs=cores, random_state=number).fit(features, label)


def _accuracy(data: Data, model: Any) -> float:
    return float(np.mean(model.predict(data.features.astype(np.float32)) == data.label))


def _linear_loss(data: Data, model: Any) -> float:
    return quality.log_loss(data, Fitted(weights=model.coef_[0], intercept=float(model.intercept_[0])))


def _cost(data: Data, model: Any) -> float:
    return quality.cost(data, Fitted(weights=model.cluster_centers_))


def _read_gaussians(plain: Any, _: Any) -> Fitted:
    return Fitted(weights=np.column_stack([plain.theta.toArray(), plain.pi.toArray()]), explained=plain.sigma.toArray())


def _gaussian_accuracy(data: Data, fitted: Fitted) -> float:
    """Return the share of rows whose class has the largest likelihood, by the expanded square."""
    means, priors, variances = fitted.weights[:, :-1], fitted.weights[:, -1], fitted.explained
    squares = data.features**2 @ (1.0 / variances).T - 2.0 * data.features @ (means / variances).T
    likelihood = priors - 0.5 * (squares + (means**2 / variances + np.log(variances)).sum(axis=1))
    return float(np.mean(likelihood.argmax(axis=1) == data.label))
