"""Ending a test folder's Spark as a whole: the next folder starts a virtual machine of its own, with its own settings."""

from pyspark import SparkContext

__all__ = ["end"]


def end(session):
    """Stop a session and the virtual machine behind it."""
    session.stop()
    gateway = SparkContext._gateway
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait(30)
    SparkContext._gateway = SparkContext._jvm = None
