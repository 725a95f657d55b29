"""Small networks on features, identifiers, graphs and coordinates."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.row import ZooModel, integers, normal, row
from tests.zoo.weights import Inputs


class GraphConvolution(nn.Module):
    """Features averaged over a dense, normalised adjacency."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.leave = nn.Linear(8, 24), nn.Linear(24, 20), nn.Linear(20, 5)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        degree = adjacency.sum(-1, keepdim=True)
        adjacency = adjacency / (degree * degree.mT).sqrt()
        x = (adjacency @ self.first(x)).relu()
        return self.leave((adjacency @ self.second(x)).relu().mean(1))


class GraphAttention(nn.Module):
    """Scores as a sum of two dot products per head, masked by the adjacency."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.leave = nn.Linear(8, 4 * 6, bias=False), nn.Linear(24, 5)
        self.source, self.target = (nn.Parameter(torch.randn(4, 6)) for _ in range(2))

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        h = self.project(x).unflatten(-1, (4, 6))
        scores = (h * self.source).sum(-1).unsqueeze(2) + (h * self.target).sum(-1).unsqueeze(1)
        scores = F.leaky_relu(scores, 0.2).masked_fill(adjacency.unsqueeze(-1) == 0, -1e4)
        y = torch.einsum("nijh,njhd->nihd", scores.softmax(2), h).flatten(2)
        return self.leave(F.elu(y))


class MessagePassing(nn.Module):
    """Messages along an edge list, added at their targets, a GRU cell updates the nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(8, 20), nn.Linear(20, 5)
        self.message = nn.Sequential(nn.Linear(40, 24), nn.ReLU(), nn.Linear(24, 16))
        self.update = nn.GRUCell(16, 20)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        x = self.enter(x)
        for _ in range(2):
            pairs = torch.cat([x[edges[0]], x[edges[1]]], -1)
            total = torch.zeros(x.shape[0], 16).index_add(0, edges[1], self.message(pairs))
            x = self.update(total, x)
        return self.leave(x)


def _edges() -> Inputs:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(12, 8, generator=rng), torch.randint(12, (2, 30), generator=rng)


class Radiance(nn.Module):
    """Sines and cosines of coordinates, a skip concat halfway, a view-dependent head (NeRF)."""

    frequencies: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2.0 ** torch.arange(4))
        self.first = nn.Sequential(nn.Linear(27, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.second = nn.Sequential(nn.Linear(59, 32), nn.ReLU())
        self.density, self.feature = nn.Linear(32, 1), nn.Linear(32, 24)
        self.colour = nn.Sequential(nn.Linear(51, 16), nn.ReLU(), nn.Linear(16, 3), nn.Sigmoid())

    def encode(self, x: Tensor) -> Tensor:
        angles = (x.unsqueeze(-1) * self.frequencies).flatten(1)
        return torch.cat([x, angles.sin(), angles.cos()], 1)

    def forward(self, place: Tensor, view: Tensor) -> Tensor:
        place = self.encode(place)
        x = self.second(torch.cat([self.first(place), place], 1))
        colour = self.colour(torch.cat([self.feature(x), self.encode(view)], 1))
        return torch.cat([colour, F.softplus(self.density(x))], 1)


class Recommender(nn.Module):
    """Pooled embeddings and dense features, all pairwise products (DLRM)."""

    rows: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.bags = nn.ModuleList(nn.EmbeddingBag(30, 16, mode="sum") for _ in range(3))
        self.bottom = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU())
        self.top = nn.Sequential(nn.Linear(16 + 6, 20), nn.ReLU(), nn.Linear(20, 1))
        self.register_buffer("pairs", torch.tril_indices(4, 4, -1))

    def forward(self, features: Tensor, ids: Tensor) -> Tensor:
        dense = self.bottom(features)
        pooled = [bag(ids[:, i]) for i, bag in enumerate(self.bags)]
        stacked = torch.stack([dense, *pooled], 1)
        products = stacked @ stacked.mT
        pairs = products[:, self.pairs[0], self.pairs[1]]
        return self.top(torch.cat([dense, pairs], 1))


def _features_and_ids(*shape: int) -> Callable[[], Inputs]:
    def inputs() -> Inputs:
        rng = torch.Generator().manual_seed(1)
        return torch.randn(2, 8, generator=rng), torch.randint(30, shape, generator=rng)

    return inputs


class FactorizationMachine(nn.Module):
    """Square of the sum minus sum of the squares, beside a deep network (DeepFM)."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.linear = nn.Embedding(30, 12), nn.Embedding(30, 1)
        self.deep = nn.Sequential(nn.Linear(5 * 12, 24), nn.ReLU(), nn.Linear(24, 1))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        pairs = (x.sum(1).square() - x.square().sum(1)).sum(1, keepdim=True) / 2
        return self.linear(ids).sum(1) + pairs + self.deep(x.flatten(1))


class MatrixFactorization(nn.Module):
    """A dot product of two embeddings, with biases."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(20, 16), nn.Embedding(30, 16)
        self.user_bias, self.item_bias = nn.Embedding(20, 1), nn.Embedding(30, 1)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        bias = self.user_bias(users) + self.item_bias(items)
        return (self.users(users) * self.items(items)).sum(-1, keepdim=True) + bias


class TwoTowers(nn.Module):
    """Queries against all items: normalised embeddings of two networks."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 16))
        self.items, self.item = nn.Embedding(30, 20), nn.Linear(20, 16)
        self.temperature = nn.Parameter(torch.tensor(2.0))

    def forward(self, features: Tensor, ids: Tensor) -> Tensor:
        query = F.normalize(self.query(features), dim=-1)
        item = F.normalize(self.item(self.items(ids).tanh()), dim=-1)
        return query @ item.T * self.temperature.exp()


class CrossNetwork(nn.Module):
    """Each layer multiplies the input by a projection of the last, beside a deep part (DCN)."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(8, 20)
        self.cross = nn.ModuleList(nn.Linear(20, 20) for _ in range(2))
        self.deep = nn.Sequential(nn.Linear(20, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU())
        self.leave = nn.Linear(36, 1)

    def forward(self, x: Tensor) -> Tensor:
        start = x = self.enter(x)
        for layer in self.cross:
            x = start * layer(x) + x
        return self.leave(torch.cat([x, self.deep(start)], 1))


class LearnedFunctions(nn.Module):
    """Each edge applies its own sum of radial functions (Kolmogorov-Arnold)."""

    centres: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centres", torch.linspace(-2, 2, 5))
        self.base = nn.ModuleList([nn.Linear(8, 16), nn.Linear(16, 4)])
        self.first = nn.Parameter(torch.randn(16, 8, 5) / 5)
        self.second = nn.Parameter(torch.randn(4, 16, 5) / 8)

    def forward(self, x: Tensor) -> Tensor:
        for base, weight in zip(self.base, (self.first, self.second), strict=True):
            bumps = torch.exp(-(x.unsqueeze(-1) - self.centres).square())
            x = base(F.silu(x)) + torch.einsum("nic,oic->no", bumps, weight)
        return x


class MemoryNetwork(nn.Module):
    """A query reads a learned memory several times (memory network)."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(8, 20), nn.Linear(20, 5)
        self.keys, self.values = (nn.Parameter(torch.randn(9, 20)) for _ in range(2))
        self.hop = nn.Linear(20, 20)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for _ in range(2):
            x = self.hop(x) + (x @ self.keys.T).softmax(-1) @ self.values
        return self.leave(x)


class ResidualTable(nn.Module):
    """Numbers and categories as tokens, a block, then the class token (FT-Transformer)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = (nn.Parameter(torch.randn(8, 16)) for _ in range(2))
        self.table, self.token = nn.Embedding(30, 16), nn.Parameter(torch.randn(1, 1, 16))
        self.norm, self.up = nn.LayerNorm(16), nn.Linear(16, 48)
        self.down, self.leave = nn.Linear(24, 16), nn.Linear(16, 3)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, features: Tensor, ids: Tensor) -> Tensor:
        numbers = features.unsqueeze(-1) * self.scale + self.shift
        x = torch.cat([self.token.expand(len(ids), -1, -1), numbers, self.table(ids)], 1)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        value, gate = self.up(x).chunk(2, -1)
        return self.leave((x + self.down(value * gate.relu()))[:, 0])


class Actor(nn.Module):
    """Advantage and value streams from a shared trunk, centred over the actions (dueling)."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 20), nn.ReLU())
        self.value, self.advantage = nn.Linear(20, 1), nn.Linear(20, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.trunk(x)
        advantage = self.advantage(x)
        return self.value(x) + advantage - advantage.mean(1, keepdim=True)


def _users_and_items() -> Inputs:
    rng = torch.Generator().manual_seed(1)
    return tuple(torch.randint(20, (6,), generator=rng) for _ in range(2))


def _graph() -> Inputs:
    rng = torch.Generator().manual_seed(1)
    links = (torch.rand(2, 7, 7, generator=rng) < 0.4).float()
    adjacency = ((links + links.mT + torch.eye(7)) > 0).float()
    return torch.randn(2, 7, 8, generator=rng), adjacency


def _multilayer() -> nn.Module:
    return nn.Sequential(
        nn.Linear(8, 32),
        nn.BatchNorm1d(32),
        nn.GELU(),
        nn.Dropout(0.1),
        nn.Linear(32, 24),
        nn.SELU(),
        nn.AlphaDropout(0.1),
        nn.Linear(24, 3),
        nn.LogSoftmax(1),
    )


def _row(name: str, make: Callable[[], nn.Module], notes: str, *shape: int) -> ZooModel:
    return row(f"small_{name}", make, normal(shape or (6, 8)), notes)


TABULAR: tuple[ZooModel, ...] = (
    row("small_graph_convolution", GraphConvolution, _graph, "dense adjacency"),
    row("small_graph_attention", GraphAttention, _graph, "additive scores per head"),
    row("small_message_passing", MessagePassing, _edges, "edge list, index_add, GRU cell"),
    row("small_radiance", Radiance, normal((6, 3), (6, 3)), "encoded coordinates, skip concat"),
    row("small_recommender", Recommender, _features_and_ids(2, 3, 4), "bags, pairwise products"),
    row("small_factorization", FactorizationMachine, integers(30, (2, 5)), "pairs and a deep part"),
    row("small_matrix_factorization", MatrixFactorization, _users_and_items, "dot product"),
    row("small_two_towers", TwoTowers, _features_and_ids(7), "cosine against all items"),
    row("small_table", ResidualTable, _features_and_ids(2, 4), "features as tokens"),
    _row("cross_network", CrossNetwork, "products with the input"),
    _row("learned_functions", LearnedFunctions, "radial functions on edges"),
    _row("memory", MemoryNetwork, "learned memory read twice"),
    _row("actor", Actor, "two streams, centred"),
    _row("multilayer", _multilayer, "batch norm, dropout, log softmax"),
)
