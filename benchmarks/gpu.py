"""Sparse linear layers, and networks of them, on a GPU against dense ones; writes docs/gpu.md.

    python benchmarks/gpu.py                       # where TVM, nvcc and a GPU are
    python benchmarks/gpu.py --build kernels.so    # otherwise, where TVM and nvcc are, and then
    python benchmarks/gpu.py --library kernels.so  # where the GPU is

All that is compared takes turns, each as a CUDA graph, so that Python's time does not count. Layers
are run with so many copies of their weights, one after the other, that the L2 cache holds none.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from math import ceil, nan
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import autoprune as ap  # noqa: E402
from autoprune.passes.kernels.cuda.kernels import Function, family  # noqa: E402
from autoprune.passes.kernels.cuda.linear import SparseLinear  # noqa: E402
from autoprune.passes.kernels.cuda.models import sparse_linears, use_library  # noqa: E402
from autoprune.passes.sparsify.masks import find_mask  # noqa: E402
from autoprune.passes.sparsify.registry import parse_format  # noqa: E402

SHAPES = ((768, 768), (3072, 768), (768, 3072), (4096, 4096))
"""Outputs and inputs."""

POSITIONS = (1, 16, 128, 2048)
PATTERNS = (
    ("block 32x1", 0.7), ("block 32x1", 0.8), ("block 32x1", 0.9), ("block 64x1", 0.9),
    ("1:4 shared 32", None), ("1:8 shared 32", None), ("2:4", None),
)  # fmt: skip
DTYPES = (torch.float32, torch.float16)
ROWS = (1, 32, 64)
SEQUENCES = ((1, 16), (1, 128), (16, 128))
"""Batch and length, of networks."""

ROUNDS = 30
LIMITS = {torch.float32: 1e-4, torch.float16: 1e-2}
"""Difference from a dense product, relative to the largest output."""

Run = Callable[[], object]
Clock = Callable[[Sequence[Run]], list[float]]
"""Seconds of each run."""


@dataclass(frozen=True)
class Row:
    """Times of one layer in seconds; nan where something does not run."""

    shape: tuple[int, int]
    positions: int
    pattern: str
    dtype: torch.dtype
    stored: float
    sparse: float
    dense: float
    tf32: float
    half_of_four: float


@dataclass(frozen=True)
class Whole:
    """Times of one network in seconds."""

    name: str
    sequences: tuple[int, int]
    dtype: torch.dtype
    seconds: float
    dense: float


def clock(runs: Sequence[Run]) -> list[float]:
    """The median seconds of each run, in turns."""
    graphs = []
    for run in runs:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        graphs.append(graph)
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS):
        for graph, taken in zip(graphs, times, strict=True):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            graph.replay()
            end.record()
            end.synchronize()
            taken.append(begin.elapsed_time(end) / 1e3)
    return [statistics.median(taken) for taken in times]


def cache_bytes() -> int:
    """Of the GPU's L2 cache."""
    return int(torch.cuda.get_device_properties(0).L2_cache_size)


def library_kernels() -> list[Function]:
    """All that is timed here."""
    names = [str(dtype).removeprefix("torch.") for dtype in DTYPES]
    return [kernel for rows in ROWS for name in names for kernel in family(rows, dtype=name)]


def in_turns(calls: Sequence[Run]) -> Run:
    """One call after the other."""

    def run() -> None:
        for call in calls:
            call()

    return run


def copies(nbytes: int, cache: int) -> int:
    """How many weights of a size the cache does not hold."""
    return max(2, ceil(2 * cache / nbytes))


@cache
def masked(shape: tuple[int, int], pattern: str, sparsity: float | None) -> tuple[Tensor, int]:
    """Random weights, and how many outputs share what is stored."""
    rng = np.random.default_rng(0)
    format = parse_format(pattern)
    weight = rng.standard_normal(shape)
    mask = find_mask(format, np.abs(weight), sparsity)
    thin = np.where(mask, weight, 0) / shape[1] ** 0.5
    return torch.from_numpy(thin.astype(np.float32)), format.tile[0]


@torch.no_grad()
def layer(
    shape: tuple[int, int],
    positions: int,
    pattern: tuple[str, float | None],
    dtype: torch.dtype,
    library: Path,
    device: str,
    clock: Clock,
    cache: int,
) -> Row:
    """Times of one layer, after a comparison of what it computes."""
    weight, rows = masked(shape, *pattern)
    x = torch.randn(positions, shape[1]).to(device, dtype)
    sparse = SparseLinear(weight, rows=rows, dtype=dtype).to(device)
    use_library(sparse, library)
    dense = weight.to(device, dtype)
    expected = F.linear(x.double(), dense.double())
    gap = float((sparse(x).double() - expected).abs().max() / expected.abs().max())
    if not gap <= LIMITS[dtype]:
        raise SystemExit(f"{pattern} {shape} x {positions} is wrong by {gap:.2g}")
    nbytes = sum(buffer.nbytes for buffer in sparse.buffers())
    many = [sparse, *(copy.deepcopy(sparse) for _ in range(copies(nbytes, cache) - 1))]
    weights = [dense.clone() for _ in range(copies(dense.nbytes, cache))]
    products = in_turns([partial(F.linear, x, weight) for weight in weights])
    runs = {
        "sparse": (in_turns([partial(copied, x) for copied in many]), len(many)),
        "dense": (products, len(weights)),
    }
    if pattern[0] == "2:4" and dtype == torch.float16 and device == "cuda":
        halves = semi_structured(weights, x)
        if halves is not None:
            runs["half_of_four"] = (halves, len(weights))
    times = dict.fromkeys(("sparse", "dense", "tf32", "half_of_four"), nan)
    taken = clock([run for run, _ in runs.values()])
    times |= {n: t / count for (n, (_, count)), t in zip(runs.items(), taken, strict=True)}
    if dtype == torch.float32:
        torch.backends.cuda.matmul.allow_tf32 = True
        times["tf32"] = clock([products])[0] / len(weights)
        torch.backends.cuda.matmul.allow_tf32 = False
    stored = float((weight != 0).double().mean())
    return Row(shape, positions, label(*pattern), dtype, stored, **times)


def semi_structured(weights: Sequence[Tensor], x: Tensor) -> Run | None:
    """torch's own 2:4 products, or None where it has none for such tensors."""
    try:
        halves = [torch.sparse.to_sparse_semi_structured(weight) for weight in weights]
        F.linear(x, halves[0])
    except RuntimeError as error:
        print(f"no semi-structured product of {list(x.shape)}: {error}", file=sys.stderr)
        return None
    return in_turns([partial(F.linear, x, half) for half in halves])


def label(pattern: str, sparsity: float | None) -> str:
    return pattern if sparsity is None else f"{pattern}, {sparsity:.0%}"


class Block(nn.Module):
    """A layer of an encoder."""

    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries, self.keys, self.values = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.before(x)
        q, k, v = (
            part(y).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (self.queries, self.keys, self.values)
        )
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.out(y)
        return x + self.down(F.gelu(self.up(self.between(x))))


def encoder(layers: int = 12, width: int = 768) -> nn.Module:
    """The shape of BERT-base without embeddings."""
    torch.manual_seed(0)
    blocks = [Block(width, 4 * width, width // 64) for _ in range(layers)]
    return nn.Sequential(*blocks).eval()


def thinned(model: nn.Module, sparsity: float) -> nn.Module:
    """The model with zeros in blocks of 32 outputs; it is changed."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            scores = np.random.default_rng(0).random(tuple(module.weight.shape))
            mask = find_mask(parse_format("block 32x1"), scores, sparsity)
            module.weight.data.mul_(torch.from_numpy(mask).to(module.weight.dtype))
    return model


@torch.no_grad()
def networks(
    dtype: torch.dtype,
    library: Path,
    device: str,
    clock: Clock,
    make: Callable[[], nn.Module] = encoder,
    width: int = 768,
    sequences: Sequence[tuple[int, int]] = SEQUENCES,
) -> Iterator[Whole]:
    """Times of the encoder: dense, pruned, sparse, and both."""

    def pruned() -> nn.Module:
        result = ap.prune(make(), torch.randn(1, 16, width), channels=0.5, multiple_of=32)
        return result.model

    def fast(model: nn.Module) -> nn.Module:
        return use_library(sparse_linears(model, rows=32, dtype=dtype), library)

    models = {"dense": make().to(dtype), "half of the channels": pruned().to(dtype)}
    for sparsity in (0.8, 0.9):
        models[f"blocks of 32, {sparsity:.0%}"] = fast(thinned(make(), sparsity).to(dtype))
    models["half of the channels, blocks of 32, 80%"] = fast(thinned(pruned(), 0.8).to(dtype))
    models = {name: model.to(device) for name, model in models.items()}
    for batch, length in sequences:
        x = torch.randn(batch, length, width).to(device, dtype)
        runs = [partial(model, x) for model in models.values()]
        times = clock(runs)
        for name, seconds in zip(models, times, strict=True):
            yield Whole(name, (batch, length), dtype, seconds, times[0])


def ratio(dense: float, sparse: float) -> str:
    return "" if np.isnan(dense) else f"{dense / sparse:.2f}"


def page(gpu: str, rows: Sequence[Row], wholes: Sequence[Whole]) -> str:
    """docs/gpu.md from its first table on."""
    text = [
        f"Written by `python benchmarks/gpu.py`, torch {torch.__version__}, on one {gpu}. Columns "
        "are the time of a dense product divided by that of the sparse one: above 1, sparse is "
        "faster. `2:4` is torch's semi-structured product, which uses the sparse tensor cores.",
        "",
        "| layer | positions | numbers | weights | stored | µs | cuBLAS | cuBLAS, TF32 | 2:4 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        against = (ratio(time, row.sparse) for time in (row.dense, row.tf32, row.half_of_four))
        text.append(
            f"| {row.shape[1]} to {row.shape[0]} | {row.positions} | {name(row.dtype)} "
            f"| {row.pattern} | {row.stored:.0%} | {row.sparse * 1e6:.1f} | {' | '.join(against)} |"
        )
    text += [
        "",
        "An encoder of BERT-base's shape, 12 layers, as a whole:",
        "",
        "| network | batch x length | numbers | ms | dense is slower by |",
        "|---|---|---|---|---|",
    ]
    text += [
        f"| {whole.name} | {' x '.join(map(str, whole.sequences))} | {name(whole.dtype)} "
        f"| {whole.seconds * 1e3:.2f} | {ratio(whole.dense, whole.seconds)} |"
        for whole in wholes
    ]
    return "\n".join([*text, ""])


def name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


MARK = "<!-- benchmarks/gpu.py writes what follows -->\n"


def write(table: str, path: Path) -> None:
    """Replace what follows the mark in the page."""
    head, mark, _ = path.read_text().partition(MARK)
    path.write_text(head + mark + "\n" + table)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, help="write the library of kernels, and end")
    parser.add_argument("--library", type=Path, help="use a library instead of building one")
    options = parser.parse_args(arguments)
    if options.build:
        build(options.build)
        return 0
    if not torch.cuda.is_available():
        print("there is no GPU here that torch can use, and nothing was measured", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        library = options.library or Path(folder, "kernels.so")
        if options.library is None:
            build(library)
        rows = []
        for dtype in DTYPES:
            for shape in SHAPES:
                for pattern in PATTERNS:
                    for positions in POSITIONS:
                        rows.append(
                            layer(
                                shape, positions, pattern, dtype, library, "cuda", clock,
                                cache_bytes(),
                            )
                        )  # fmt: skip
                        print(rows[-1], flush=True)
        gpu, path = torch.cuda.get_device_name(), ROOT / "docs" / "gpu.md"
        # What there is stays, whatever happens next.
        write(page(gpu, rows, []), path)
        wholes = [whole for dtype in DTYPES for whole in networks(dtype, library, "cuda", clock)]
        write(page(gpu, rows, wholes), path)
    return 0


def build(path: Path) -> None:
    from autoprune.passes.kernels.cuda.build import build_cuda

    build_cuda(library_kernels(), path)


if __name__ == "__main__":
    raise SystemExit(main())
