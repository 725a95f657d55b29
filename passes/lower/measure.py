"""How much faster a fusion region is on sparse kernels, on this processor."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx

from autoprune.frameworks.onnx.sessions import Feed, open_session
from autoprune.passes.kernels.kernel import Steps
from autoprune.passes.lower.emit import PlaceOf, drop_unread, with_sparse_operators
from autoprune.passes.lower.fuse import Region

ROUNDS = 15
"""Runs of each that are timed, in turns; the shortest counts."""

RESOLUTION = 1e-6
"""Seconds; what takes less is not told apart."""

FLUSHED = 1 << 25
"""Bytes that are written between runs: a network finds the weights of a layer out of the cache."""


class Speedup(NamedTuple):
    """Time of dense nodes by that of sparse operators: of the shortest runs, and of most rounds.

    Attributes:
        times: of the shortest runs.
        lower: in a quarter of the rounds it is less.
        upper: in a quarter of the rounds it is more.
    """

    times: float
    lower: float
    upper: float


def border(model: onnx.ModelProto, region: Region) -> tuple[list[str], list[str]]:
    """Values that a fusion region reads, and those of its own that others read."""
    inside = {fusion.output for fusion in region}
    own = {node.output[0] for fusion in region for node in fusion.nodes}
    others = [node for node in model.graph.node if node.output and node.output[0] not in own]
    outside = {name for node in others for name in node.input}
    outside |= {value.name for value in model.graph.output}
    reads = dict.fromkeys(name for fusion in region for name in fusion.inputs)
    return [n for n in reads if n not in inside], [
        fusion.output for fusion in region if fusion.output in outside
    ]


def speedup(
    model: onnx.ModelProto,
    region: Region,
    place_of: PlaceOf,
    library: Path,
    feed: Feed,
    steps: Steps,
) -> Speedup:
    """Time of the dense nodes of a fusion region by that of its sparse operators, in one thread.

    What a session takes for itself, whatever it computes, is taken off: it can be more than a
    small one takes.

    Args:
        model: the dense model.
        region: some of its fusions.
        place_of: as for `with_sparse_operators`.
        library: their kernels, for this processor.
        feed: the values that the region reads.
        steps: as for `with_sparse_operators`.
    """
    reads, makes = border(model, region)
    part = _extracted(model, region, reads, makes, feed)
    sparse = with_sparse_operators(part, [region], place_of, steps)
    sessions = [
        open_session(part.SerializeToString(), 1),
        open_session(sparse.SerializeToString(), 1, library=library),
        open_session(_idle(part).SerializeToString(), 1),
    ]
    given = {name: feed[name] for name in reads}
    taken = np.zeros((ROUNDS, len(sessions)))
    buffer = np.zeros(FLUSHED // 4, np.float32)
    for session in sessions:
        session.run(None, given)
    for turn in range(ROUNDS):
        for place, session in enumerate(sessions):
            buffer += 1
            start = time.perf_counter()
            session.run(None, given)
            taken[turn, place] = time.perf_counter() - start
    nothing = taken[:, 2].min()

    def ratio(usual: Any, fast: Any) -> Any:
        return np.maximum(usual - nothing, RESOLUTION) / np.maximum(fast - nothing, RESOLUTION)

    rounds = ratio(taken[:, 0], taken[:, 1])
    best = ratio(taken[:, 0].min(), taken[:, 1].min())
    return Speedup(float(best), *(float(q) for q in np.quantile(rounds, (0.25, 0.75))))


def _idle(part: onnx.ModelProto) -> onnx.ModelProto:
    """A model with the inputs of another and as many outputs, which computes next to nothing."""
    idle = onnx.ModelProto()
    idle.CopyFrom(part)
    first = part.graph.input[0].name
    del idle.graph.node[:], idle.graph.initializer[:]
    idle.graph.node.extend(
        onnx.helper.make_node("Shape", [first], [value.name]) for value in part.graph.output
    )
    return idle


def _extracted(
    model: onnx.ModelProto,
    region: Region,
    reads: Sequence[str],
    makes: Sequence[str],
    feed: Feed,
) -> onnx.ModelProto:
    """The nodes of a fusion region as a model of its own."""
    part = onnx.ModelProto()
    part.CopyFrom(model)
    own = {node.output[0] for fusion in region for node in fusion.nodes}
    own |= {
        p.before.output[0] for fusion in region for p in fusion.products if p.before is not None
    }
    nodes = [node for node in model.graph.node if node.output and node.output[0] in own]
    for field in (part.graph.node, part.graph.input, part.graph.output, part.graph.value_info):
        del field[:]
    part.graph.node.extend(nodes)
    part.graph.input.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, feed[name].shape)
        for name in reads
    )
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in makes)
    drop_unread(part.graph)
    return part
