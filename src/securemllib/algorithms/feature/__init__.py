"""Feature transformers: columns to columns, with nothing trained or with statistics that add up.

Runs in: the enclave, for whole columns of one part at a time.
Sees: the columns that a plan or job names, in the clear; no keys, files, clock or sockets.
"""
