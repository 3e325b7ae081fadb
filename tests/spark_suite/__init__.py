"""Spark's own tests of pyspark.ml, run against sealed training with changed imports only."""
