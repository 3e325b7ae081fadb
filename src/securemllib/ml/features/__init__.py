"""Feature transformers by idea; ``securemllib.ml.feature`` has them all, as pyspark.ml does.

Runs in: the analyst's program on the host.
Sees: names, Params and sealed bytes; rows never.
"""
