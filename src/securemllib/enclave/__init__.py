"""The attester: worker, aggregator and predictor over decrypted rows; the measured, trusted code.

Runs in: the enclave process, one a Spark executor (inside SGX under a LibOS where there is hardware).
Sees: the plaintext of the jobs that it was granted; it opens no file of the host's choosing and resolves no name.
"""
