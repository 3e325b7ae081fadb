"""Pure arithmetic: one algorithm, one file, one shape.

Runs in: the enclave (training, scoring) and, for released plain models, with their recipient.
Sees: rows, statistics, states and models in the clear; no keys, files, clock or sockets.
"""
