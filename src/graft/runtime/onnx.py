"""Run an ONNX graph on the CPU: one thread a call, many calls at once.

Measured with EfficientNet-Lite0 at 224² on two cores: one picture a call in two threads is faster than batches spread
over two threads, because the maps of one picture stay in the cache, no thread waits for another, and nothing spins
beside the decoder. The output for a picture has the same bits whatever runs beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from graft.errors import BadModel, shown


def open_session(model: Path | bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """A graph, ready to be run on the CPU. Raises BadModel for what is no graph."""
    try:
        return onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        name = "the graph" if isinstance(model, bytes) else shown(model)
        raise BadModel(f"{name} is not a graph that ONNX Runtime can load ({_said(error)})") from error


def _said(error: Exception) -> str:
    """An error of ONNX Runtime in a line."""
    return shown(f"{type(error).__name__}: {error}".splitlines()[0][:200])


class OnnxRunner:
    """A graph's only input, such as pixels (N, S, S, 3) uint8 → an output of it, such as (N, D), float32.

    output: its name; the graph's first if left out.
    Safe to call from several threads. Raises BadModel for a file that is no graph, and for an array that it cannot be
    run on.
    """

    def __init__(self, model: Path | bytes, *, threads: int = 1, output: str | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads would slow torch
        self._session = open_session(model, options)
        self._input = self._session.get_inputs()[0].name
        names = [one.name for one in self._session.get_outputs()]
        if output is not None and output not in names:
            raise BadModel(
                f"the graph has no output {output!r}, it has {', '.join(names)}; get a sound copy of the model"
            )
        self._output = output or names[0]

    def __call__(self, given: NDArray[Any]) -> NDArray[np.float32]:
        try:
            (output,) = self._session.run([self._output], {self._input: given})
        except Exception as error:
            shape = tuple(given.shape)
            raise BadModel(f"the graph cannot be run on {self._input} of shape {shape}: {_said(error)}") from error
        return np.asarray(output, dtype=np.float32)
