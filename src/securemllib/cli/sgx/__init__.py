"""SGX on paper: what a training did, counted, and what published constants say that it would cost in an SGX enclave.

Runs in: a developer's or an operator's machine.
Sees: synthetic rows that it makes itself; counts.
"""
