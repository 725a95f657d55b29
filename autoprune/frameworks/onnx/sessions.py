"""ONNX Runtime sessions on the CPU: opening them, and running them on whatever dtype.

ONNX Runtime's Python interface neither takes nor returns arrays of what numpy lacks, bfloat16 and
floats and integers of few bits, but it shows where they lie in memory. Such arrays have the dtypes
of ml_dtypes, as `onnx.numpy_helper` gives them.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from autoprune.errors import TraceError, first_line

Feed = Mapping[str, NDArray[Any]]
"""Arrays by the name of the graph input they are for."""

LONGEST = 900.0
"""Seconds that one inference may take: a loop need not end."""

_LACKING = {
    f"tensor({name.lower()})": TensorProto.DataType.Value(name)
    for name in TensorProto.DataType.keys()  # noqa: SIM118  (no mapping)
    if name.startswith(("BFLOAT", "FLOAT8", "FLOAT4", "INT4", "UINT4", "INT2", "UINT2"))
}
"""By the name ONNX Runtime gives to a type, that of ONNX."""


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


def run(session: Any, names: Sequence[str] | None, feed: Mapping[str, NDArray[Any]]) -> list[Any]:
    """Outputs of a session as `session.run` gives them, of whatever dtype.

    Raises:
        TraceError: if the model does not run on the inputs.
    """
    options = _run_options()
    watch = Timer(LONGEST, setattr, (options, "terminate", True))
    watch.daemon = True
    watch.start()
    try:
        return _run(session, names, feed, options)
    except Exception as error:  # the classes of ONNX Runtime have no common base
        what = f"takes more than {LONGEST:g} s for" if options.terminate else "cannot run"
        raise TraceError(
            f"ONNX Runtime {what} the model on the example inputs: {first_line(error)}"
        ) from error
    finally:
        watch.cancel()


def _run_options() -> Any:
    from onnxruntime import RunOptions

    options = RunOptions()
    options.log_severity_level = 4
    return options


def _run(
    session: Any, names: Sequence[str] | None, feed: Mapping[str, NDArray[Any]], options: Any
) -> list[Any]:
    made = session.get_outputs()
    types = {output.name: output.type for output in made}
    names = [output.name for output in made] if names is None else names
    distinct = dict.fromkeys(names)
    lacking = [name for name in distinct if types[name] in _LACKING]
    known = [name for name in distinct if name not in lacking]
    given = {name: _is_lacking(array) for name, array in feed.items()}
    found: dict[str, Any] = {}
    if not any(given.values()):
        if known:
            found.update(zip(known, session.run(known, dict(feed), options), strict=True))
        known = []
    if lacking or known:
        wanted = [*lacking, *known]
        given_values = {name: _value(array) for name, array in feed.items()}
        values = session.run_with_ort_values(wanted, given_values, options)
        for name, value in zip(wanted, values, strict=True):
            found[name] = _array(value, _LACKING[types[name]]) if name in lacking else value.numpy()
    return [found[name] for name in names]


def _is_lacking(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "V"


def _value(array: NDArray[Any]) -> Any:
    """An array in the form that ONNX Runtime takes whatever its dtype is."""
    from onnxruntime import OrtValue

    if not _is_lacking(array):
        return OrtValue.ortvalue_from_numpy(array)
    bits = np.ascontiguousarray(array).view(f"uint{8 * array.dtype.itemsize}")
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    return OrtValue.ortvalue_from_numpy_with_onnx_type(bits, kind)


def _array(value: Any, kind: int) -> NDArray[Any]:
    data = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    tensor = TensorProto(data_type=kind, dims=value.shape(), raw_data=data)
    return numpy_helper.to_array(tensor)
