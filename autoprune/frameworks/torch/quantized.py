"""Networks whose weights are integers already: they are refused, as no unit of them can be scored.

Simulated quantization, whose weights are still floating point, is pruned; see `ops.quantization`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from autoprune.errors import TraceError
from autoprune.ir.graph import Graph

_HINT = "prune the network in floating point first, then quantize the smaller one"
_SHARDED = "make the Pruner before sharding, or load whole weights into a model that is not"


def check_weights(model: nn.Module) -> None:
    """Notice weights that are no plain tensors.

    Raises:
        TraceError: if they are packed, quantized, or hold other tensors.
    """
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        for name, kind in _packed(module):
            raise TraceError(f"weights are {kind}", where=f"{prefix}{name}", hint=_HINT)
        tensors = chain(module.named_parameters("", False), module.named_buffers("", False))
        for name, tensor in tensors:
            kind = type(tensor).__name__
            if kind == "DTensor":
                raise TraceError("a weight is sharded", where=f"{prefix}{name}", hint=_SHARDED)
            integers = not tensor.dtype.is_floating_point and not tensor.dtype.is_complex
            if is_traceable_wrapper_subclass(tensor) or (
                integers and type(tensor) not in (torch.Tensor, nn.Parameter, nn.Buffer)
            ):
                raise TraceError(
                    f"a weight is a {kind}, which computes in ways of its own, as quantized "
                    "weights do",
                    where=f"{prefix}{name}",
                    hint=_HINT,
                )


def _packed(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Attributes of a module that hold weights in forms of their own, and which."""
    attributes = chain(vars(module).items(), module._parameters.items(), module._buffers.items())
    for name, value in attributes:
        if isinstance(value, torch.ScriptObject) and "PackedParams" in str(value._type()):
            yield name, "packed for operators of 8-bit integers"
        elif isinstance(value, torch.Tensor) and value.is_quantized:
            yield name, f"of {str(value.dtype).removeprefix('torch.')}"


def check_graph(graph: Graph) -> None:
    """Notice a graph that has integers where the weights were, and no other weights.

    Raises:
        TraceError: naming the first of them.
    """
    weights = {p.value.name for p in graph.parameters if p.kind == "parameter"}
    read = {v.name for node in graph.nodes for v in node.inputs if len(v.shape) > 1}
    integers = [
        value
        for node in graph.nodes
        for value in node.inputs[:1]
        if value.name in graph.parameter_of
        and value.dtype in ("int8", "uint8")
        and any(result.dtype.startswith("float") for result in node.outputs)
    ]
    if integers and not weights & read:
        raise TraceError(f"weights are {integers[0].dtype}", where=integers[0].name, hint=_HINT)
