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

from autoprune.analysis.typing import TypedGraph
from autoprune.backends.torch import get_tensor, zeroed_parameters
from autoprune.frontends.torch import Traced
from autoprune.ir.graph import Node, Value
from autoprune.ir.group import Group, Guarantee
from autoprune.ir.positions import Kept, kept_masks

Spared = Mapping[str, frozenset[int]]
"""By parameter, the leaves whose removed positions are not set to zero in it."""


def spared_parameters(typed: TypedGraph, groups: Mapping[int, Group], kept: Kept) -> Spared:
    """Parameters in which removed units are not set to zero to compare with.

    Weights that read the constants of folded units, and directions of weights of norm zero.
    """
    spared: dict[str, frozenset[int]] = {}
    for uid in kept:
        for name in groups[uid].spared:
            spared[name] = spared.get(name, frozenset()) | {uid}
    for node, uids in _sites(typed, groups, kept):
        weight = _weight(node).name
        spared[weight] = spared.get(weight, frozenset()) | uids
    return spared


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
    """
    sites = _sites(typed, groups, kept)
    if not sites:
        return {}
    state = zeroed_parameters(traced, typed, kept, spared_parameters(typed, groups, kept))
    observer = _Observer(traced.module, state, {node.name for node, _ in sites})
    with torch.no_grad():
        observer.run(*inputs)
        return {
            _bias(node).name: get_tensor(traced.module, _bias(node).name)
            + _constant(typed, node, {uid: kept[uid] for uid in uids}, observer)
            for node, uids in sites
        }


def _sites(
    typed: TypedGraph, groups: Mapping[int, Group], kept: Kept
) -> list[tuple[Node, frozenset[int]]]:
    """The calls that read constants, with the leaves of the units that leave them."""
    found: dict[str, set[int]] = {}
    for uid in kept:
        if groups[uid].guarantee is Guarantee.FOLDED:
            for name in groups[uid].folds:
                found.setdefault(name, set()).add(uid)
    return [(n, frozenset(found[n.name])) for n in typed.graph.nodes if n.name in found]


def _weight(node: Node) -> Value:
    weight = node.arguments["weight"]
    assert isinstance(weight, Value)
    return weight


def _bias(node: Node) -> Value:
    bias = node.arguments["bias"]
    assert isinstance(bias, Value)
    return bias


class _Observer(fx.Interpreter):
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
        return super().get_attr(target, args, kwargs) if found is None else found

    def run_node(self, n: fx.Node) -> Any:
        if n.name in self.names:
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            self.seen[n.name] = (n, args, kwargs)
        return super().run_node(n)


def _constant(typed: TypedGraph, node: Node, kept: Kept, observer: _Observer) -> torch.Tensor:
    """What the removed positions of a layer's input add to its outputs, one number each."""
    n, (x, *rest), kwargs = observer.seen[node.name]
    assert callable(n.target)
    source = node.arguments["input"]
    assert isinstance(source, Value)
    staying = torch.ones((), dtype=torch.bool, device=x.device)
    for mask in kept_masks(typed.types[source.name], kept):
        staying = staying & torch.from_numpy(mask).to(x.device)
    constants = n.target(x.masked_fill(staying, 0), *rest, **kwargs)
    added = constants - n.target(torch.zeros_like(x), *rest, **kwargs)
    channels = 1 - len(_weight(node).shape)  # before the spatial dimensions, if there are any
    result: torch.Tensor = added.movedim(channels, -1).flatten(0, -2)[0]
    return result
