"""What data owners and analysts do on their own machine: encrypt datasets, state policies, enrol, sign jobs and open results.

`securemllib.owner.dataset` encrypts, `securemllib.owner.reading` verifies and decrypts; neither needs Spark.

Runs in: the owner's or analyst's own machine.
Sees: their plaintext, their private identity, their key-encryption key and dataset secrets.
"""
