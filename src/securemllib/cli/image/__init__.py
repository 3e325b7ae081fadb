"""Enclave images: a folder that holds every file of an enclave's environment, and the Gramine manifest that trusts exactly those.

Runs in: the machine of whoever builds enclaves or writes policies: an owner's, or an operator's whom the owner checks by building again.
Sees: program files; no key but the one that signs enclaves, which it hands to Gramine's signer by name.
"""
