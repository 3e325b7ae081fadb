"""Statistics of columns: each one job with the shape of an algorithm, whose model is the result.

Runs in: the enclave; a result leaves only where the policy has the output ``summary``.
Sees: the columns that a job names, in the clear; no keys, files, clock or sockets.
"""
