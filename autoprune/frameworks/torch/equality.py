"""Running modules to compare what they compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn
from torch._C import _functorch as functorch
from torch.utils import _pytree as pytree

from autoprune.frameworks import comparison
from autoprune.frameworks.network import Array
from autoprune.frameworks.torch.arrays import array_of
from autoprune.frameworks.torch.autocast import left_as_found
from autoprune.frameworks.torch.objects import Inputs, map_tensors, plain, read_outputs
from autoprune.ir.graph import Graph


def run(model: nn.Module, inputs: Inputs, *, seed: int = 0) -> Any:
    """Outputs on the (probing) example inputs, without gradients, and with chance of its own."""
    return outputs_on(model, probing(inputs), seed=seed)


def outputs_on(model: nn.Module, inputs: Inputs, *, seed: int = 0) -> Any:
    """As `run`, on these inputs, to which the model may write."""
    with isolated(seed):
        if isinstance(model, fx.GraphModule):
            # An exported graph may write to its buffers; it writes to copies here.
            buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
            with left_as_found(model.graph):
                returned = torch.func.functional_call(model, buffers, *plain(inputs))
        else:
            returned = model(*inputs.args, **inputs.kwargs)
        return read_outputs(returned, model.forward).values


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Without gradients, with chance of its own, and with torch left as it was found.

    An exported graph that fails in between may have entered transforms of `torch.func`.
    """
    depth = functorch.get_dynamic_layer_stack_depth()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            yield
        except Exception:
            functorch.pop_dynamic_layer_stack_and_undo_to_depth(depth)
            raise


def probing(inputs: Inputs) -> Inputs:
    """A copy of the example inputs in which tensors of zeros are drawn at random.

    Zeros are the usual placeholder, and would hide every mistake in the first layers.
    """

    def probe(v: torch.Tensor) -> torch.Tensor:
        if v.is_floating_point() and not v.any():
            return torch.randn(v.shape, generator=torch.Generator().manual_seed(0)).to(v)
        return v.clone()

    return map_tensors(probe, inputs)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; every module's own mode is restored."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        model.train(modes[0][1])  # an exported graph switches its operators here
        for module, training in modes:
            module.training = training


def difference(a: Any, b: Any) -> float:
    """Largest relative difference between two structures of tensors; inf if they do not match.

    Each pair of tensors is compared relative to the largest magnitude that differs in it; equal
    infinities and NaNs in the same places count as equal.
    """
    return comparison.difference(_arrays(a), _arrays(b))


def _arrays(structure: Any) -> list[Array]:
    """The tensors in a structure."""
    return [array_of(v) for v in pytree.tree_leaves(structure) if isinstance(v, torch.Tensor)]


def tolerance(outputs: Any) -> float:
    """The rounding level of the least precise floating-point output."""
    return comparison.tolerance(_arrays(outputs))


def precision(graph: Graph, outputs: Any) -> float:
    """The rounding level of the least precise numbers that outputs are computed in."""
    computed = {v.dtype for node in graph.nodes for v in node.outputs}
    return max(comparison.rounding(computed), tolerance(outputs))
