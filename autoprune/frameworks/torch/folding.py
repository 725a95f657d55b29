"""Constants that removed units leave, added to the bias of the layer that reads them.

A unit whose producing slices are zero may still hand on a constant: sigmoid(0) is 1/2. A linear
layer, or a convolution without padding, turns a constant input into a constant output, which its
bias can take up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from autoprune.analysis.folding import folding_calls, operand, spared_parameters
from autoprune.analysis.typing import TypedGraph
from autoprune.errors import TraceError
from autoprune.frameworks.torch.autocast import Interpreter
from autoprune.frameworks.torch.cut import get_tensor, zeroed_parameters
from autoprune.frameworks.torch.trace import Traced
from autoprune.ir.graph import Node
from autoprune.ir.group import Group
from autoprune.ir.positions import Kept, kept_masks


def folded_biases(
    traced: Traced, typed: TypedGraph, groups: Mapping[int, Group], kept: Kept, inputs: Any
) -> dict[str, torch.Tensor]:
    """The biases, uncut, that take up the constants of all folded units that do not stay.

    Args:
        traced: the network.
        typed: its axis types.
        groups: by leaf.
        kept: the units that stay.
        inputs: flattened example inputs; the constants do not depend on them.

    Raises:
        TraceError: if a layer that reads constants is given tensors without elements.
    """
    sites = folding_calls(typed, groups, kept)
    if not sites:
        return {}
    state = zeroed_parameters(traced, typed, kept, spared_parameters(typed, groups, kept))
    observer = _Observer(traced.module, state, {node.name for node, _ in sites})
    with torch.no_grad():
        observer.run(*inputs)
        return {
            operand(node, "bias").name: get_tensor(traced.module, operand(node, "bias").name)
            + _constant(typed, node, {uid: kept[uid] for uid in uids}, observer)
            for node, uids in sites
        }


class _Observer(Interpreter):
    """Runs a graph with some parameters replaced, and keeps the arguments of some calls."""

    def __init__(
        self, module: fx.GraphModule, state: Mapping[str, torch.Tensor], names: set[str]
    ) -> None:
        super().__init__(module)
        self.state = state
        self.names = names
        self.seen: dict[str, tuple[fx.Node, Any, Any]] = {}

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        found = self.state.get(str(target))
        if found is not None:
            return found
        value = super().get_attr(target, args, kwargs)
        is_buffer = isinstance(value, torch.Tensor) and not isinstance(value, torch.nn.Parameter)
        return value.clone() if is_buffer else value  # which calls may write to

    def run_node(self, n: fx.Node) -> Any:
        if n.name in self.names:
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            self.seen[n.name] = (n, args, kwargs)
        return super().run_node(n)


def _constant(typed: TypedGraph, node: Node, kept: Kept, observer: _Observer) -> torch.Tensor:
    """What the removed positions of a layer's input add to its outputs, one number each."""
    n, (x, weight, *rest), kwargs = observer.seen[node.name]
    assert callable(n.target)
    x = x.to(weight.dtype)  # which are apart where the call is under autocast
    source = operand(node, "input")
    staying = torch.ones((), dtype=torch.bool, device=x.device)
    for mask in kept_masks(typed.types[source.name], kept):
        staying = staying & torch.from_numpy(mask).to(x.device)
    constants = n.target(x.masked_fill(staying, 0), weight, *rest, **kwargs)
    added = constants - n.target(torch.zeros_like(x), weight, *rest, **kwargs)
    # Before the spatial dimensions, if there are any.
    channels = 1 - len(operand(node, "weight").shape)
    if not added.numel():
        raise TraceError(
            "a layer is given nothing, so what removed units leave to its bias cannot be found",
            where=str(node),
            hint="pass example inputs without axes of size 0",
        )
    rows: torch.Tensor = added.movedim(channels, -1).reshape(-1, added.shape[channels])
    return rows[0]
