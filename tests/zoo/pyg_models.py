"""Graph networks of torch-geometric on an edge list."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.row import ZooModel, row
from tests.zoo.weights import Inputs


class Layers(nn.Module):
    """Two graph layers of the same kind."""

    def __init__(self, make: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.first, self.second = make(8, 16), make(16, 5)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        return self.second(self.first(x, edges).relu(), edges)


def _graph() -> Inputs:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(12, 8, generator=rng), torch.randint(12, (2, 30), generator=rng)


def _row(name: str, *, notes: str, mlp: bool = False, **options: Any) -> ZooModel:
    def make() -> nn.Module:
        from torch_geometric import nn as graphs

        def layer(inputs: int, outputs: int) -> nn.Module:
            if mlp:
                hidden = nn.Sequential(nn.Linear(inputs, 20), nn.ReLU(), nn.Linear(20, outputs))
                return getattr(graphs, name)(hidden, **options)
            return getattr(graphs, name)(inputs, outputs, **options)

        return Layers(layer)

    return row(f"pyg_{name.removesuffix('Conv').lower()}", make, _graph, notes)


PYG: tuple[ZooModel, ...] = (
    _row("GCNConv", notes="normalised by degrees"),
    _row("SAGEConv", notes="mean of neighbours beside the node"),
    _row("GATConv", notes="additive attention, softmax over edges", add_self_loops=False),
    _row("GATv2Conv", notes="dynamic attention", add_self_loops=False),
    _row("GINConv", mlp=True, notes="sum, then a perceptron"),
    _row("GraphConv", notes="two weights"),
    _row("TransformerConv", notes="dot-product attention over edges"),
    _row("ChebConv", notes="polynomials of the Laplacian", K=3),
    _row("TAGConv", notes="powers of the adjacency"),
)
