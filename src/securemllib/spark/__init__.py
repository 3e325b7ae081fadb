"""The untrusted side: sessions, sealed data frames, and the engine that carries sealed rounds between enclaves.

Runs in: the Spark driver and its executors' Python tasks; the host.
Sees: ciphertext, sizes, timing, job specifications, and what a job's policy lets out.
"""

from securemllib.spark.dataframe import SecureDataFrame
from securemllib.spark.session import SecureSession
from securemllib.spark.sink import SealedStream

__all__ = ["SealedStream", "SecureDataFrame", "SecureSession"]
