"""Compiled inner loops, each beside a numpy twin that computes the same and is its oracle.

Runs in: the enclave (training, scoring) and wherever algorithms run.
Sees: arrays of rows in the clear; it returns sums and touches nothing else.

To add a kernel:

1. ``name.c`` beside this file includes ``kernel.h`` and marks its functions ``KERNEL``. Sizes are ``int64_t``, arrays are pointers to
   C-contiguous data, results are written to arrays that the caller made or returned as a number; no allocation, no state, no
   dependence on the number of threads, sums in a fixed order (lanes, then lanes together), so that a rerun gives the same bytes.
   The build makes a library of every ``.c`` file here, ``libname.so``, with the flags of ``hatch_build.py``; ``make setup`` builds
   anew when a file changed.
2. ``name.py`` names the function's types and holds the twin::

       _COMPILED = function("name", "name", array_of(np.float32), INTEGER, array_of(np.float64, written=True))

       def name(rows):                    # what algorithms call
           if _COMPILED is None or rows.dtype != np.float32:
               return name_twin(rows)
           sums = np.zeros(rows.shape[1])
           _COMPILED(rows, len(rows), sums)
           return sums

       def name_twin(rows): ...           # numpy

   ``_COMPILED`` is None without a compiler or on a processor that is too old: the twin then does the work.
   Shapes are checked before the call, because C cannot. The interpreter's lock is free during it.
3. ``tests/algorithms/kernels/test_name.py`` compares the two on Hypothesis' inputs (odd sizes, no rows, one column, extreme values,
   NaN and infinity where rows may have them) with a tolerance that gives its reason.

Files are read by the measurement of the enclave: the C sources, and the libraries that were built from them.
"""
