"""An ONNX model as a torch.fx.GraphModule, checked against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import fx

from autoprune.errors import NotEqualError, first_line
from autoprune.frameworks.comparison import array_difference, difference, tolerance
from autoprune.frameworks.onnx.feeds import probing
from autoprune.frameworks.onnx.run import observe, outputs

# Each of these registers its operators.
from autoprune.frameworks.onnx.to_torch import (
    elementwise,  # noqa: F401
    layers,  # noqa: F401
    pooling,  # noqa: F401
    quantization,  # noqa: F401
    recurrent,  # noqa: F401
    reduction,  # noqa: F401
    shape,  # noqa: F401
    sizes,  # noqa: F401
)
from autoprune.frameworks.onnx.to_torch.writer import ORIGIN, Writer, as_array, as_tensor
from autoprune.frameworks.onnx.trace import TracedOnnx, trace


def import_onnx(source: str | Path | onnx.ModelProto, example_inputs: Any) -> fx.GraphModule:
    """See `autoprune.to_torch`."""
    traced = trace(source, example_inputs)
    module, values = write_module(traced)
    check(traced, module, values)
    return module


def write_module(traced: TracedOnnx) -> tuple[fx.GraphModule, dict[str, str]]:
    """The model as a module, and by fx node the ONNX value that it computes.

    Raises:
        TraceError: if an operator has no counterpart.
    """
    writer = Writer(traced)
    numbers, model = traced.numbers, traced.model
    for node in model.graph.node:
        if not any(name in traced.owners or name in numbers.computed for name in node.output):
            writer.write(node)
    results = [writer.tensor(o.name) for o in model.graph.output]
    writer.graph.output(results[0] if len(results) == 1 else tuple(results))
    fx.GraphModule(writer.root, writer.graph).graph.eliminate_dead_code()
    module = fx.GraphModule(writer.root, writer.graph, "OnnxModule")
    saved = writer.root.state_dict()
    for path, buffer in module.named_buffers():
        if path not in saved:  # a GraphModule forgets which of its buffers are not saved
            folder, _, leaf = path.rpartition(".")
            module.get_submodule(folder).register_buffer(leaf, buffer, persistent=False)
    module.eval()
    return module, {node.name: name for name, node in writer.tensors.items()}


def check(traced: TracedOnnx, module: fx.GraphModule, values: Mapping[str, str]) -> None:
    """Compare with ONNX Runtime on the example inputs.

    Where the outputs differ by more than rounding, every operator is looked at alone, on the
    inputs that ONNX Runtime has there: rounding errors may have grown on the way.

    Raises:
        NotEqualError: if an operator does not compute what it does in ONNX Runtime.
    """
    feed = probing(traced.feed)
    expected = outputs(traced.model, feed)
    tensors = [as_tensor(feed[value.name]) for value in traced.graph.inputs]
    try:
        with torch.no_grad():
            results = fx.Interpreter(module).run(*tensors, enable_io_processing=False)
    except Exception:
        error = float("inf")
    else:
        got = results if isinstance(results, tuple) else (results,)
        error = difference(expected, [as_array(t) for t in got])
    if error > tolerance(expected):
        teacher = _Teacher(module, values, observe(traced.model, feed))
        with torch.no_grad():
            teacher.run(*tensors)


class _Teacher(fx.Interpreter):
    """Runs a module, and goes on from each value with what ONNX Runtime has there."""

    def __init__(
        self, module: fx.GraphModule, values: Mapping[str, str], expected: Mapping[str, Any]
    ) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self.values = values
        self.expected = expected

    def run_node(self, n: fx.Node) -> Any:
        """The node's result, or what ONNX Runtime has in its place.

        Raises:
            NotEqualError: if it does not run, or its result differs.
        """
        place = n.meta.get(ORIGIN)
        try:
            result = super().run_node(n)
        except Exception as failure:
            line = first_line(failure)
            raise NotEqualError(
                f"the torch module does not run on the example inputs: {line}", where=place
            ) from failure
        known = self.expected.get(self.values.get(n.name, ""))
        if not isinstance(known, np.ndarray) or not isinstance(result, torch.Tensor):
            return result
        error = _gap(known, as_array(result), n)
        if error > tolerance([known]):
            raise NotEqualError(
                f"the torch module differs from ONNX Runtime by {error:.2g} after an operator, on "
                "the same inputs",
                where=place,
                hint="please report the operator",
            )
        return as_tensor(known)


def _gap(known: NDArray[Any], found: NDArray[Any], n: fx.Node) -> float:
    """Relative difference; the scale of what saturates is one."""
    error = array_difference(known, found)
    if error < float("inf") and n.target in (torch.sigmoid, F.softmax, torch.tanh):
        return min(error, float(np.abs(known - found).max(initial=0)))
    return error
