"""The law for a whole network: what is cut off computes the same as what is set to zero."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from autoprune.analysis.experiments.conformance import SEEDS, removals
from autoprune.analysis.groups import Groups, find_groups
from autoprune.analysis.guarantees import Spared, spared_parameters
from autoprune.analysis.typing import TypedGraph, infer
from autoprune.errors import NotEqualError
from autoprune.frameworks.torch.equality import difference, tolerance
from autoprune.frameworks.torch.network import TorchNetwork
from autoprune.frameworks.torch.trace import as_inputs, trace
from autoprune.ir.group import Group, Guarantee
from autoprune.ir.positions import Indices, unit_positions
from autoprune.passes.pruning.law import prove

Reads = Callable[[str, int], bool]
"""Whether the slices of a parameter's dimension are applied to units, rather than make them."""


def check_network(model: nn.Module, example_inputs: Any, *, reads: Reads | None = None) -> Groups:
    """Cut units of every exact group of a network, alone and all together, over several seeds.

    Args:
        model: the network; it is run as it is, so that float64 leaves no room for rounding.
        example_inputs: as for `autoprune.prune`.
        reads: if given, zero-invariant groups are also checked with the slices zeroed that make
            the units, and not those that read them.

    Returns:
        The groups found.

    Raises:
        NotEqualError: if cutting is not zeroing.
    """
    traced = trace(model, example_inputs)
    typed = infer(traced.graph)
    found = find_groups(typed)
    groups = {group.leaf.uid: group for group in found}
    for removed in rounds([group for group in found if group.guarantee.exact]):
        kept = {uid: kept_units(groups[uid], units) for uid, units in removed.items()}
        prove(TorchNetwork(traced), typed, groups, kept)
    for group in found:
        if reads is not None and group.guarantee is Guarantee.ZERO_INVARIANT:
            for units in removals(group.units):
                _check_producers(model, example_inputs, typed, group, units, reads)
    return found


def rounds(groups: list[Group], seeds: tuple[int, ...] = SEEDS) -> Iterator[dict[int, Indices]]:
    """Removed units by leaf: of each group alone, then of all of them at once."""
    for group in groups:
        for units in removals(group.units, seeds):
            yield {group.leaf.uid: units}
    for i in range(len(seeds) if len(groups) > 1 else 0):
        yield {group.leaf.uid: removals(group.units, seeds)[i] for group in groups}


def kept_units(group: Group, removed: Indices) -> Indices:
    """The units of a group that stay."""
    return np.setdiff1d(np.arange(group.units), removed)


def zeroed(
    network: nn.Module,
    example_inputs: Any,
    typed: TypedGraph,
    removed: Mapping[int, Indices],
    reads: Reads = lambda name, dim: False,
    spared: Spared = MappingProxyType({}),
) -> Any:
    """Outputs of a network, run eagerly, with the slices of removed units set to zero.

    Slices that only read the units, as `reads` tells, keep their values; so do those of the leaves
    in `spared`, by parameter.
    """
    state = {name: p.detach().clone() for name, p in network.named_parameters()}
    for parameter in typed.graph.parameters:
        name = parameter.value.name
        if name not in state:
            continue
        for dim, axis in enumerate(typed.types[name]):
            for uid in axis.uids & removed.keys():
                if not reads(name, dim) and uid not in spared.get(name, ()):
                    rows = unit_positions(axis, uid)[removed[uid]].ravel()
                    state[name].index_fill_(dim, torch.from_numpy(rows), 0)
    args, kwargs = as_inputs(example_inputs)
    args = tuple(v.clone() if isinstance(v, torch.Tensor) else v for v in args)
    with torch.no_grad():
        return torch.func.functional_call(network, state, args, kwargs)


def _check_producers(
    model: nn.Module,
    example_inputs: Any,
    typed: TypedGraph,
    group: Group,
    units: Indices,
    reads: Reads,
) -> None:
    removed = {group.leaf.uid: units}
    spared = spared_parameters(typed, [group])
    everywhere = zeroed(model, example_inputs, typed, removed, spared=spared)
    producers = zeroed(model, example_inputs, typed, removed, reads, spared)
    gap = difference(everywhere, producers)
    if gap > tolerance(everywhere):
        raise NotEqualError(
            f"group {group.name} is called zero-invariant, but units whose producers are zero "
            f"still change the outputs by {gap:.2g}",
            hint="an operator's rule claims zeros where there are none",
        )
