"""An ONNX model as a torch.fx.GraphModule, checked against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import fx

# Each of these registers its operators.
from autoprune.backends.onnx_torch import (
    elementwise,  # noqa: F401
    layers,  # noqa: F401
    pooling,  # noqa: F401
    quantization,  # noqa: F401
    recurrent,  # noqa: F401
    reduction,  # noqa: F401
    shape,  # noqa: F401
    sizes,  # noqa: F401
)
from autoprune.backends.comparison import array_difference
from autoprune.backends.onnx_equality import difference, noise, outputs, tolerance
from autoprune.backends.onnx_torch.writer import Writer, as_array, as_tensor
from autoprune.errors import NotEqualError
from autoprune.frontends.onnx import TracedOnnx, trace
from autoprune.frontends.onnx_inputs import probing
from autoprune.frontends.onnx_run import observe
from autoprune.frontends.sessions import Feed


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
    writer.graph.eliminate_dead_code()
    module = fx.GraphModule(writer.root, writer.graph, "OnnxModule")
    saved = writer.root.state_dict()
    for path, buffer in module.named_buffers():
        if path not in saved:  # a GraphModule forgets which of its buffers are not saved
            folder, _, leaf = path.rpartition(".")
            module.get_submodule(folder).register_buffer(leaf, buffer, persistent=False)
    module.eval()
    return module, {node.name: name for name, node in writer.tensors.items()}


def check(traced: TracedOnnx, module: fx.GraphModule, values: dict[str, str]) -> None:
    """Compare with ONNX Runtime on the example inputs.

    Raises:
        NotEqualError: if the outputs differ by more than rounding, or the module does not run.
    """
    feed = probing(traced.feed)
    expected = outputs(traced.model, feed)
    watcher = fx.Interpreter(module, garbage_collect_values=False)
    try:
        with torch.no_grad():
            result = watcher.run(*_tensors(traced, feed))
    except Exception as failure:
        line = (str(failure).strip() or type(failure).__name__).splitlines()[0]
        raise NotEqualError(
            f"the torch module does not run on the example inputs: {line}",
            where=_first_difference(traced, feed, watcher, values),
            hint=_HINT,
        ) from failure
    results = result if isinstance(result, tuple) else (result,)
    error = difference(expected, [as_array(t) for t in results])
    if error > tolerance(expected) and error > noise(traced.model, feed, expected):
        raise NotEqualError(
            f"the torch module differs from ONNX Runtime by {error:.2g}, which rounding does not "
            "explain",
            where=_first_difference(traced, feed, watcher, values),
            hint=_HINT,
        )


_HINT = "please report the operator named above"


def _tensors(traced: TracedOnnx, feed: Feed) -> list[torch.Tensor]:
    return [as_tensor(feed[value.name]) for value in traced.graph.inputs]


def _first_difference(
    traced: TracedOnnx, feed: Feed, watcher: fx.Interpreter, values: dict[str, str]
) -> str:
    """The first ONNX node whose outputs differ, or that does not run."""
    expected = observe(traced.model, feed)
    got = {values[n.name]: v for n, v in watcher.env.items() if n.name in values}
    for node in traced.model.graph.node:
        for name in node.output:
            known, found = expected.get(name), got.get(name)
            if not isinstance(known, np.ndarray) or not isinstance(found, torch.Tensor):
                continue
            if array_difference(known, as_array(found)) > tolerance([known]):
                return f"node {node.name or name}, operator {node.op_type}"
    return "the outputs themselves"
