"""Reorder the channels of a network so that important weights share blocks.

The groups of the analysis are the axes that can be reordered: whatever makes the units of a group
and whatever reads them is in its list of parameters. Whether the network computes the same in the
new order is measured, as for cutting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.frameworks.torch.equality import difference, evaluating, run, tolerance
from autoprune.frameworks.torch.network import trace_network
from autoprune.frameworks.torch.objects import Inputs
from autoprune.ir.axes import Axis, leaves
from autoprune.ir.group import Group
from autoprune.ir.positions import unit_positions
from autoprune.passes.pruning.analysed import Analysis, analyse_network
from autoprune.passes.pruning.request import DEFAULTS
from autoprune.passes.sparsify.layout import Array, Scores
from autoprune.passes.sparsify.orders import Order
from autoprune.passes.sparsify.rearrangement import Matrix, Placement, rearrange
from autoprune.passes.sparsify.weights import Weight
from autoprune.report.quantities import count


@dataclass(frozen=True, eq=False)
class Move:
    """A new order of positions along a dimension of a tensor."""

    tensor: Tensor
    dim: int
    index: Order


def rearranged(
    model: nn.Module,
    inputs: Inputs,
    weights: Sequence[Weight],
    sparsity: float,
    score: Callable[[Array], Scores],
) -> tuple[str, ...]:
    """Reorder the channels of a network in place, so that formats keep higher scores.

    Args:
        model: the network; it computes the same afterwards.
        inputs: example inputs.
        weights: those that will become sparse.
        sparsity: of those whose format leaves it open.
        score: importance of the weights of a matrix, float64.

    Returns:
        What was done, in sentences.

    Raises:
        TraceError: if the network cannot be exported.
    """
    analysis = analyse_network(trace_network(model, inputs), DEFAULTS)
    tensors = _tensors(model, analysis)
    movable = {
        str(group.leaf.uid): group
        for group in analysis.found.groups
        if all(o.parameter in tensors for o in group.occurrences)
    }
    found = rearrange(list(_matrices(analysis, movable, weights, sparsity, score)))
    orders = {
        uid: order
        for uid, order in found.orders.items()
        if not np.array_equal(order, np.arange(len(order)))
    }
    moves = {uid: _moves(analysis, movable[uid], order, tensors) for uid, order in orders.items()}
    moved = move_where_equal(model, inputs, moves)
    kept = f"{count(len(moved), 'axis', 'axes')} of channels reordered"
    if len(moved) < len(moves):
        names = ", ".join(movable[uid].name for uid in moves if uid not in moved)
        return (f"{kept}; the order matters for {names}.",)
    gain = found.after / max(found.before, 1e-30) - 1
    return (f"{kept}: the kept blocks hold {gain:.1%} more importance.",)


def _tensors(model: nn.Module, analysis: Analysis) -> dict[str, Tensor]:
    """Parameters and buffers of the model by value name; constants in its code are none."""
    own = {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }
    return {
        parameter.value.name: own[name]
        for parameter in analysis.graph.parameters
        for name in parameter.names[:1]
        if name in own
    }


def _matrices(
    analysis: Analysis,
    movable: Mapping[str, Group],
    weights: Iterable[Weight],
    sparsity: float,
    score: Callable[[Array], Scores],
) -> Iterator[Matrix]:
    value_of = {name: p.value.name for p in analysis.graph.parameters for name in p.names}
    for weight in weights:
        if weight.name not in value_of:
            continue
        axes = analysis.typed.types[value_of[weight.name]]
        outputs, inputs = weight.shape
        values = weight.matrix(weight.parameter.detach()).float().numpy(force=True)
        scores = score(values)
        size = weight.parameter.shape[1]
        yield Matrix(
            scores / max(float(scores.mean()), 1e-30),
            weight.format,
            None if weight.format.levels((outputs, inputs)) is None else sparsity,
            rows=_places(axes[0], movable, 1),
            cols=_places(axes[1], movable, inputs // size),
        )


def _places(axis: Axis, movable: Mapping[str, Group], kernel: int) -> tuple[Placement, ...]:
    """Where axes that can be reordered lie along a dimension, the larger of those that overlap."""
    places: list[Placement] = []
    taken = np.zeros(axis.size, dtype=np.bool_)
    distinct = sorted(dict.fromkeys(leaves(axis)), key=lambda leaf: -leaf.size)
    for leaf in distinct:
        positions = unit_positions(axis, leaf.uid)
        if str(leaf.uid) not in movable or taken[positions].any():
            continue
        taken[positions] = True
        columns = positions[..., None] + axis.size * np.arange(kernel)
        places.append(Placement(str(leaf.uid), columns.reshape(len(positions), -1)))
    return tuple(places)


def _moves(
    analysis: Analysis, group: Group, order: Order, tensors: Mapping[str, Tensor]
) -> list[Move]:
    moves = []
    for occurrence in group.occurrences:
        axis = analysis.typed.types[occurrence.parameter][occurrence.dim]
        positions = unit_positions(axis, group.leaf.uid)
        index = np.arange(axis.size)
        index[positions] = positions[order]
        moves.append(Move(tensors[occurrence.parameter], occurrence.dim, index))
    return moves


def move_where_equal(
    model: nn.Module, inputs: Inputs, moves: Mapping[str, Sequence[Move]]
) -> list[str]:
    """Do the moves after which the network computes the same; the axes that they are of."""
    with evaluating(model):
        expected = run(model, inputs)

        def equal() -> bool:
            return difference(expected, run(model, inputs)) <= 10 * tolerance(expected)

        for moved in moves.values():
            _apply(moved)
        if equal():
            return list(moves)
        for moved in moves.values():
            _apply(moved, back=True)
        done = []
        for uid, moved in moves.items():
            _apply(moved)
            if equal():
                done.append(uid)
            else:
                _apply(moved, back=True)
        return done


@torch.no_grad()
def _apply(moves: Iterable[Move], *, back: bool = False) -> None:
    for move in moves:
        index = torch.from_numpy(np.argsort(move.index) if back else move.index)
        move.tensor.copy_(move.tensor.index_select(move.dim, index.to(move.tensor.device)))
