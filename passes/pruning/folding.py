"""Constants that removed units leave, added to the bias of the layer that reads them.

A unit whose producing slices are zero may still hand on a constant: sigmoid(0) is 1/2. A linear
layer, or a convolution without padding, turns a constant input into a constant output, which its
bias can take up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from autoprune.analysis.guarantees import folding_calls
from autoprune.analysis.typing import TypedGraph
from autoprune.errors import TraceError
from autoprune.frameworks.network import Array, Executable, Network, Values
from autoprune.ir.group import Group
from autoprune.ir.positions import Kept, kept_masks
from autoprune.ops.views import Call


def folded_biases(
    network: Network,
    zeroed: Executable,
    typed: TypedGraph,
    groups: Mapping[int, Group],
    kept: Kept,
    inputs: Any,
) -> dict[str, Array]:
    """The biases, uncut, that take up the constants of all folded units that do not stay, by name.

    In the network `zeroed` these units are zero. The constants do not depend on the inputs.

    Raises:
        TraceError: if a layer that reads constants is given tensors without elements.
    """
    sites = folding_calls(typed, [groups[uid] for uid in kept])
    if not sites:
        return {}
    read = zeroed.operands(inputs, [call.node for call, _ in sites])
    biases: dict[str, Array] = {}
    for call, uids in sites:
        bias = call.tensor("bias").name
        removed = {uid: kept[uid] for uid in uids}
        added = _constant(network, call, removed, read[call.node.name])
        biases[bias] = network.parameter(bias) + added
    return biases


def _constant(network: Network, call: Call, kept: Kept, values: Values) -> Array:
    """What the removed positions of a layer's input add to its outputs, one number each."""
    node, source, weight = call.node, call.tensor("input").name, call.tensor("weight")
    # Input and weight are of other dtypes where the call is under autocast.
    x = values[source].astype(np.dtype(network.parameter(call.tensor("bias").name).dtype))
    staying: Array = np.ones((), bool)
    for mask in kept_masks(call.types[source], kept):
        staying = staying & mask
    zeros = np.zeros_like(x)
    (constants,) = network.call(node.name, {**values, source: np.where(staying, zeros, x)})
    (nothing,) = network.call(node.name, {**values, source: zeros})
    # Before the spatial dimensions, if there are any.
    channels = 1 - len(weight.shape)
    if not constants.size:
        raise TraceError(
            "a layer is given nothing, so what removed units leave to its bias cannot be found",
            where=str(node),
            hint="pass example inputs without axes of size 0",
        )
    rows: Array = np.moveaxis(constants - nothing, channels, -1)
    added: Array = rows.reshape(-1, constants.shape[channels])[0]
    return added
