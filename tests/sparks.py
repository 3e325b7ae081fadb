"""A test folder's Spark: how its virtual machine runs, and how it ends as a whole, so that the next folder starts one of its own."""

from pyspark import SparkContext

__all__ = ["JAVA_OPTIONS", "end"]

# The virtual machine's second compiler crashed, without a word, in MLlib's own Huber loss and bounded logistic regression; small fits are
# faster without it anyway. Lineages of iterative fits without checkpoints are read recursively, which takes stack.
JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -Xss8m"


def end(session):
    """Stop a session and the virtual machine behind it."""
    session.stop()
    gateway = SparkContext._gateway
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait(30)
    SparkContext._gateway = SparkContext._jvm = None
