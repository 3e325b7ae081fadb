"""What all tests share: Spark's tasks run in this interpreter, and property tests do not depend on how busy the machine is."""

import os
import sys

from hypothesis import settings

# Spark starts its Python tasks with whatever `python3` it finds, unless told.
os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)

# A deadline of milliseconds fails on a shared machine, never on a wrong answer.
settings.register_profile("securemllib", deadline=None, print_blob=True)
settings.load_profile("securemllib")
