"""Evaluators: metrics of a model's predictions, each with the shape of an algorithm.

Runs in: the enclave; the metric leaves only if the job's policy releases it.
Sees: labels, weights and predictions in the clear, for clustering the features too; no keys, files, clock or sockets.
"""
