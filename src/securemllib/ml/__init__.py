"""Estimators, models and evaluators with pyspark.ml's names, params and results, over sealed rows.

Runs in: the Spark driver; the host.
Sees: params, sealed models, and what a job's policy lets out.
"""

from securemllib.ml.pipeline import Pipeline, PipelineModel

__all__ = ["Pipeline", "PipelineModel"]
