"""The law for ONNX, from the plan alone: the model with the removed units set to zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from autoprune.ir.plan import Plan
from tests.conformance.removal import removed, units_along


def zeroed(model: onnx.ModelProto, cut: onnx.ModelProto, plan: Plan) -> onnx.ModelProto:
    """The model with everything that the plan removes from floating-point tensors set to zero.

    Except what is divided by: of what is zero without that, nothing is left.

    Raises:
        AssertionError: if the cut model's tensors are not what the plan leaves of the model's.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    divisors = {node.input[1] for node in model.graph.node if node.op_type in ("Div", "Mod")}
    small = {t.name: numpy_helper.to_array(t) for t in cut.graph.initializer}
    for tensor in result.graph.initializer:
        if tensor.name in plan.parameters:
            array = numpy_helper.to_array(tensor)
            axes = [units_along(e, plan) for e in plan.parameters[tensor.name]]
            gone = removed(axes, plan.groups)
            left: Any = array[~gone].ravel()
            assert np.array_equal(left, small[tensor.name].ravel(), equal_nan=_is_float(array)), (
                f"{tensor.name} is not cut as the plan says"
            )
            if _is_float(array) and tensor.name not in divisors:
                array = np.where(gone, array.dtype.type(0), array)
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return result


def _is_float(array: np.ndarray) -> bool:
    return array.dtype.kind == "f"
