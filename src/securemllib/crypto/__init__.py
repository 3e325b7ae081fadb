"""Keys and what is done with them: sealing, wrapping, signing. Primitives come from pyca/cryptography.

Runs in: trusted roles only: owner, broker, enclave.
Sees: keys and plaintext.
"""
