"""What decision trees, random forests and gradient-boosted trees share: candidates, bins, histograms, splits, growing.

Runs in: the enclave.
Sees: the rows of the blocks that it is given, and no keys.
"""
