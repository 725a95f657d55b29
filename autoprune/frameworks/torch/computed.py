"""What a traced network computes from its parameters and buffers alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

import torch
from torch import fx, nn

from autoprune.frameworks.torch.arrays import get_attribute
from autoprune.frameworks.torch.exported import ancestors
from autoprune.frameworks.torch.runner import GraphRunner


def computed_values(module: fx.GraphModule, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """Values of a graph, by name, without those that need an input of it, if only its size."""
    with torch.no_grad():
        return _computed(module, names, {})


def dead_weights(module: fx.GraphModule, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """Where parameters have no effect on values that are computed from them, such as under a mask.

    Args:
        module: an exported graph.
        names: of the values, which depend on no input.

    Returns:
        By the path of a parameter, where its elements do nothing; those that all count are left
        out.
    """
    own = {
        str(n.target): parameter.detach().clone().requires_grad_()
        for n in module.graph.find_nodes(op="get_attr")
        if isinstance(parameter := get_attribute(module, str(n.target)), nn.Parameter)
        and parameter.is_floating_point()
    }
    draws = torch.Generator().manual_seed(0)
    with torch.enable_grad():
        values = [v for v in _computed(module, names, own).values() if v.requires_grad]
        total = sum((v * torch.randn(v.shape, generator=draws).to(v)).sum() for v in values)
    if not values:
        return {}
    assert isinstance(total, torch.Tensor)
    gradients = torch.autograd.grad(total, [*own.values()], allow_unused=True)
    dead = {path: g == 0 for path, g in zip(own, gradients, strict=True) if g is not None}
    return {path: mask for path, mask in dead.items() if bool(mask.any())}


def _computed(
    module: fx.GraphModule, names: Iterable[str], own: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Values by name, with other tensors in place of those at some paths."""
    # A value is called after its node, and otherwise only if a parameter has that name.
    nodes = {n.name: n for n in module.graph.nodes}
    wanted = {name: nodes[name.removesuffix("'")] for name in names}
    needed = ancestors(wanted.values())
    runner = GraphRunner(module, {path: partial(_instead, new) for path, new in own.items()})
    for node in module.graph.nodes:
        known = node.op != "placeholder" and runner.env.keys() >= set(node.all_input_nodes)
        if node in needed and known:
            runner.env[node] = runner.run_node(node)
    return {n: runner.env[node] for n, node in wanted.items() if node in runner.env}


def _instead(new: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return new
