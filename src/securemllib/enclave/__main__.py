"""The enclave process: ``python -I -m securemllib.enclave --port 0 --memory BYTES --idle SECONDS``."""

import os

# Set before numpy loads its BLAS: each task is one thread, and a product's bits must not depend on how many there are.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

from securemllib.enclave.server import main  # noqa: E402

if __name__ == "__main__":
    main()
