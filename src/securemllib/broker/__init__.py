"""The key broker: verifier and relying party. It holds keys and policies, appraises evidence, and grants keys to enclaves.

Runs in: one HTTP server on the owners' premises.
Sees: dataset secrets, job and model keys, policies, job specifications, the audit log; never rows.
"""
