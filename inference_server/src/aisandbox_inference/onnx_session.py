"""ONNX Runtime: the options of a policy's session, and its runs.

A run for a number of observations that keeps coming is bound to buffers in memory (ONNX Runtime's I/O binding): between
two calls gRPC has displaced the contents of the CPU's caches, and a plain ``session.run`` then takes up to 1.5 times as
long as a bound one. Must not know what the numbers mean.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from aisandbox_inference.onnx_runtime import ort

Array = NDArray[Any]

_Key: TypeAlias = tuple[Any, ...]
"""The number of observations, and the inputs that a run has."""
_BIND_AFTER = 4
"""A binding costs more than a plain run, so it is made for a number of observations after so many runs."""
_MAX_BINDINGS, _MAX_COUNTED = 4, 64
_MAX_BOUND_BYTES = 64 * 1024
"""An input of more bytes takes so long that a binding makes no difference."""


def create_session(onnx: bytes) -> ort.InferenceSession:
    """Return a session on one CPU thread. Raises ValueError if the runtime refuses the file.

    A policy takes microseconds: more threads cost more than they gain, and calls run in parallel anyway. Without an
    arena it is as fast, and frees its memory.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 3  # or every model would print a warning that "noise" may be overridden
    try:
        return ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors have no common base
        raise ValueError(f"ONNX Runtime cannot load it: {error}") from error


class SessionRunner:
    """Runs a session for any number of observations, from any threads; one thread at a time uses the bindings."""

    def __init__(self, session: ort.InferenceSession, outputs: Sequence[str]) -> None:
        self._session = session
        self._outputs = list(outputs)
        self._bindings_lock = threading.Lock()
        self._bindings: dict[_Key, _Binding] = {}
        self._runs: Counter[_Key] = Counter()

    def run(self, feed: Mapping[str, Array], count: int) -> list[Array]:
        """Return the outputs for a feed of ``count`` observations, inputs [count, ...] by name."""
        if not self._bindings_lock.acquire(blocking=False):
            return self._run_unbound(feed)
        try:
            key = (count, *feed)  # with or without noise and masks
            binding = self._bindings.get(key)
            if binding is not None:
                return binding.run(feed)
            outputs = self._run_unbound(feed)
            self._count(key, feed, outputs)
            return outputs
        finally:
            self._bindings_lock.release()

    def _count(self, key: _Key, feed: Mapping[str, Array], outputs: Sequence[Array]) -> None:
        """Count a run without binding, and bind after enough of them."""
        self._runs[key] += 1
        if self._runs[key] == _BIND_AFTER and sum(array.nbytes for array in feed.values()) <= _MAX_BOUND_BYTES:
            if len(self._bindings) == _MAX_BINDINGS:
                self._bindings.clear()
            self._bindings[key] = _Binding(self._session, feed, dict(zip(self._outputs, outputs, strict=True)))
        if self._runs[key] >= _BIND_AFTER or len(self._runs) > _MAX_COUNTED:
            self._runs.clear()

    def _run_unbound(self, feed: Mapping[str, Array]) -> list[Array]:
        outputs: list[Array] = self._session.run(self._outputs, dict(feed))
        return outputs


class _Binding:
    """Runs a session for one number of observations. Not thread-safe."""

    def __init__(
        self, session: ort.InferenceSession, inputs: Mapping[str, Array], outputs: Mapping[str, Array]
    ) -> None:
        """``inputs`` and ``outputs`` are examples by name, with the shapes and dtypes of all runs."""
        self._session = session
        self._inputs = {key: np.array(value, order="C") for key, value in inputs.items()}
        self._outputs = [np.array(value, order="C") for value in outputs.values()]
        self._binding = session.io_binding()
        # The OrtValues share the arrays' memory. (bind_cpu_input does not know inputs that have a default.)
        for key, buffer in self._inputs.items():
            self._binding.bind_ortvalue_input(key, ort.OrtValue.ortvalue_from_numpy(buffer))
        for name, buffer in zip(outputs, self._outputs, strict=True):
            self._binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(buffer))

    def run(self, feed: Mapping[str, Array]) -> list[Array]:
        """Return copies of the outputs."""
        for key, buffer in self._inputs.items():
            buffer[...] = feed[key]
        self._session.run_with_iobinding(self._binding)
        return [output.copy() for output in self._outputs]
