"""One row of a session's inputs and outputs in memory that the runtime is bound to.

Owns buffers that are used again by every call: between two calls gRPC has emptied the CPU's caches, and a plain
`session.run` then takes 1.5 times as long as a bound one. Not for several threads. Must not know what the numbers mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Array = NDArray[Any]


class BoundRow:
    """Runs a session for one row at a time."""

    def __init__(self, session: ort.InferenceSession, inputs: Mapping[str, Array], name: str, output: Array) -> None:
        """``inputs`` and ``output`` have the shape and dtype of one row, [1, ...]; the output's name is ``name``."""
        self._session = session
        self._inputs = {key: np.array(value, order="C") for key, value in inputs.items()}
        self._output = np.array(output, order="C")
        self._binding = session.io_binding()
        # Values share the arrays' memory. (bind_cpu_input knows no inputs that have a default.)
        for key, buffer in self._inputs.items():
            self._binding.bind_ortvalue_input(key, ort.OrtValue.ortvalue_from_numpy(buffer))
        self._binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(self._output))

    def run(self, feed: Mapping[str, Array]) -> Array:
        """Return the output, which the next call overwrites."""
        for key, buffer in self._inputs.items():
            buffer[...] = feed[key]
        self._session.run_with_iobinding(self._binding)
        return self._output
