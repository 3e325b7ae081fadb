"""The tenant's key-encryption key (KEK), which wraps the secrets of datasets: in a file, or in a key management service.

Runs in: the owner's machine, and the broker.
Sees: dataset secrets while it wraps and unwraps them. The KEK itself stays in its service, except where it is a file.
"""
