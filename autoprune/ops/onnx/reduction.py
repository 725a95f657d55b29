"""Reductions, also where there is nothing to reduce, and running products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from autoprune.ops.pinning import mixing, one_dim
from autoprune.ops.rule import first_state, known, register
from autoprune.ops.views import State, Zeroing


def _of_something(zero: Callable[[Zeroing], State]) -> Callable[[Zeroing], State]:
    """Largest, smallest and mean of no numbers, and logarithms of their sum, are not finite."""

    def state(call: Zeroing) -> State:
        found = zero(call)
        return State.UNDEFINED if 0 in call.tensor("input").shape else found

    return state


def _of_nothing(zero: Callable[[Zeroing], State]) -> Callable[[Zeroing], State]:
    """The sum of no numbers is zero."""

    def state(call: Zeroing) -> State:
        found = zero(call)
        return State.ZERO if 0 in call.tensor("input").shape else found

    return state


def _log_sum(call: Zeroing) -> State:
    """The logarithm of a sum, which is zero where the input is."""
    state = known("aten.sum").zero(call)
    kept = any(call.within(axis) for axis in call.axes_of(call.output))
    return State.UNDEFINED if state is State.ZERO and kept else state


_SAME = {
    "aten.mean": ("ReduceMean", _of_something),
    "aten.amax": ("ReduceMax ReduceMin", _of_something),
    "aten.prod": ("ReduceProd", _of_something),
    "aten.logsumexp": ("ReduceLogSumExp", _of_something),
    "aten.sum": ("ReduceSum", _of_nothing),
    "aten.linalg_vector_norm": ("ReduceL1 ReduceL2", _of_nothing),
}
for _name, (_names, _empty) in _SAME.items():
    _operator = known(_name)
    register(
        " ".join(f"onnx.{n}" for n in _names.split()),
        replace(_operator, zero=_empty(_operator.zero)),
    )
_sum = replace(known("aten.sum"), homogeneous=None)
register("onnx.ReduceSumSquare", replace(_sum, zero=_of_nothing(_sum.zero)))
register("onnx.ReduceLogSum", replace(_sum, zero=_of_something(_log_sum)))


def _product_zero(call: Zeroing) -> State:
    """Without the element itself, the first product is one."""
    state = first_state(call)
    return max(state, State.CONSTANT) if call.get("exclusive") is True else state


register("onnx.CumProd", mixing(one_dim, "accumulated along it", _product_zero))
