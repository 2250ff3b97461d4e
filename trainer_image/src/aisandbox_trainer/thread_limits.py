"""Keeps numeric libraries from starting threads. Imports nothing heavy: it must come before NumPy."""

from __future__ import annotations

import os


def limit_native_threads() -> None:
    """One thread for OpenBLAS and OpenMP unless said otherwise: runs share a machine, and a fork must find no threads.

    PyTorch's own number is set later, for the policy at hand.
    """
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
