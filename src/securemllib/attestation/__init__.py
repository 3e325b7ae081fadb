"""Evidence and its appraisal in the words of RFC 9334: attester, verifier, appraisal policy; one module a TEE.

Runs in: trusted roles only: the attester in the enclave, the verifier in the broker, the measurement also at the owner's.
Sees: evidence and the enclave's public keys.
"""
