"""ONNX Runtime sessions on the CPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from autoprune.errors import TraceError, first_line

Feed = Mapping[str, NDArray[Any]]
"""Arrays by the name of the graph input they are for."""


def open_session(
    model: str | Path | bytes,
    threads: int,
    *,
    optimize: bool = True,
    library: str | Path | None = None,
) -> Any:
    """An ONNX Runtime session.

    Args:
        model: a path, or a serialized model.
        threads: threads it may use; 0 for as many as there are cores.
        optimize: whether ONNX Runtime may fuse and reorder operators.
        library: of operators that the model uses.

    Raises:
        TraceError: if ONNX Runtime cannot load the model.
    """
    # Telemetry files are written when the package is imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if library is not None:
        options.register_custom_ops_library(str(library))
    source = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own classes have no common base
        raise TraceError(
            f"ONNX Runtime cannot load the model: {first_line(error)}",
            hint="check it with onnx.checker.check_model",
        ) from error
