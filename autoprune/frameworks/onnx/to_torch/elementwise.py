"""Operators that treat every element alike, with broadcasting."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from autoprune.frameworks.onnx.to_torch.writer import OnnxCall, dtype_of, writes, writes_as

_ALIKE: dict[str, Callable[..., Any]] = {
    "Abs": torch.abs, "Acos": torch.acos, "Acosh": torch.acosh, "Asin": torch.asin,
    "Asinh": torch.asinh, "Atan": torch.atan, "Atanh": torch.atanh,
    "BitwiseNot": torch.bitwise_not, "Ceil": torch.ceil, "Cos": torch.cos, "Cosh": torch.cosh,
    "Erf": torch.erf, "Exp": torch.exp, "Floor": torch.floor, "HardSwish": F.hardswish,
    "IsNaN": torch.isnan, "Log": torch.log, "Mish": F.mish, "Neg": torch.neg,
    "Not": torch.logical_not, "Reciprocal": torch.reciprocal, "Relu": torch.relu,
    "Round": torch.round, "Sigmoid": torch.sigmoid, "Sign": torch.sign, "Sin": torch.sin,
    "Sinh": torch.sinh, "Softplus": F.softplus, "Softsign": F.softsign, "Sqrt": torch.sqrt,
    "Tan": torch.tan, "Tanh": torch.tanh,
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "And": torch.logical_and,
    "Or": torch.logical_or, "Xor": torch.logical_xor, "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or, "BitwiseXor": torch.bitwise_xor, "Equal": torch.eq,
    "Less": torch.lt, "LessOrEqual": torch.le, "Greater": torch.gt, "GreaterOrEqual": torch.ge,
    "Where": torch.where,
}  # fmt: skip
"""Operators that torch has under another name."""

for _name, _target in _ALIKE.items():
    writes_as(_name, _target)
writes_as("LeakyRelu", F.leaky_relu, "x | alpha:negative_slope=0.01")
writes_as("Elu", F.elu, "x | alpha=1.0")
writes_as("Celu", F.celu, "x | alpha=1.0")
writes_as("ThresholdedRelu", F.threshold, "x | alpha:threshold=1.0 value=0.0")
writes_as("Gelu microsoft.Gelu", F.gelu, "x | approximate='none'")


@writes("Identity")
def _identity(call: OnnxCall) -> fx.Node:
    return call.tensors[0]


@writes("microsoft.BiasGelu")
def _bias_gelu(call: OnnxCall) -> fx.Node:
    return call.emit(F.gelu, call.emit(torch.add, call.tensor(0), call.tensor(1)))


def swish(x: torch.Tensor, alpha: float) -> torch.Tensor:
    """`x * sigmoid(alpha * x)`."""
    return x * torch.sigmoid(alpha * x)


writes_as("Swish", swish, "x | alpha=1.0")
writes_as("microsoft.QuickGelu", swish, "x | alpha=1.702")


def selu(x: torch.Tensor, alpha: float, gamma: float) -> torch.Tensor:
    """`gamma * x` above zero, `gamma * alpha * (exp(x) - 1)` below."""
    return gamma * F.elu(x, alpha)


writes_as("Selu", selu, "x | alpha=1.67326319217681884765625 gamma=1.05070102214813232421875")


def hard_sigmoid(x: torch.Tensor, alpha: float, beta: float) -> torch.Tensor:
    """`alpha * x + beta`, between zero and one."""
    return torch.clamp(alpha * x + beta, 0, 1)


writes_as("HardSigmoid", hard_sigmoid, "x | alpha=0.2 beta=0.5")


def shrink(x: torch.Tensor, lambd: float, bias: float) -> torch.Tensor:
    """Zero between `-lambd` and `lambd`, outside moved towards zero by `bias`."""
    zero = torch.zeros_like(x)
    return torch.where(x > lambd, x - bias, torch.where(x < -lambd, x + bias, zero))


writes_as("Shrink", shrink, "x | lambd=0.5 bias=0.0")


def is_inf(x: torch.Tensor, negative: bool, positive: bool) -> torch.Tensor:
    """Which elements are infinite, on the wanted sides."""
    return (torch.isneginf(x) & negative) | (torch.isposinf(x) & positive)


writes_as("IsInf", is_inf, "x | detect_negative:negative=True detect_positive:positive=True")


def cast(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The tensor in another dtype."""
    return x.to(dtype)


@writes("Cast")
def _cast(call: OnnxCall) -> fx.Node:
    return call.emit(cast, call.tensor(0), dtype_of(call.attribute("to")))


def cast_like(x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The tensor in the dtype of another."""
    return x.to(other.dtype)


writes_as("CastLike", cast_like)


@writes("Clip")
def _clip(call: OnnxCall) -> fx.Node:
    low, high = _bound(call, 1, "min"), _bound(call, 2, "max")
    if low is None and high is None:
        return call.tensors[0]
    if isinstance(low, fx.Node) != isinstance(high, fx.Node):
        # torch.clamp takes two numbers or two tensors.
        above = call.tensor(0) if low is None else call.emit(torch.clamp, call.tensor(0), low)
        return above if high is None else call.emit(torch.clamp, above, None, high)
    return call.emit(torch.clamp, call.tensor(0), low, high)


def _bound(call: OnnxCall, position: int, name: str) -> Any:
    known = call.known(position)
    if known is not None:
        return known.reshape(()).item()
    return call.tensor(position) if call.has(position) else call.attribute(name)


@writes("Dropout")
def _dropout(call: OnnxCall) -> fx.Node:
    ratio = call.known(1)
    share = call.attribute("ratio", 0.5) if ratio is None else float(ratio)
    return call.emit_module("dropout", nn.Dropout(share), call.tensor(0))


def power(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Power, in the dtype of the base."""
    return torch.pow(a, b).to(a.dtype)


@writes("Div")
def _div(call: OnnxCall) -> fx.Node:
    whole = call.dtype(0).startswith(("int", "uint"))
    mode = "trunc" if whole else None
    return call.emit(torch.div, call.tensor(0), call.tensor(1), rounding_mode=mode)


@writes("Mod")
def _mod(call: OnnxCall) -> fx.Node:
    target = torch.fmod if call.attribute("fmod", 0) else torch.remainder
    return call.emit(target, call.tensor(0), call.tensor(1))


@writes("Pow")
def _pow(call: OnnxCall) -> fx.Node:
    known = call.known(1)
    if known is not None and known.size == 1 and known.ndim <= call.rank:
        exponent = known.reshape(()).item()
        whole = call.dtype(0).startswith(("int", "uint"))
        if not whole or isinstance(exponent, int):
            return call.emit(torch.pow, call.tensor(0), exponent)
    return call.emit(power, call.tensor(0), call.tensor(1))


@writes("BitShift")
def _shift(call: OnnxCall) -> fx.Node:
    left = call.attribute("direction") == "LEFT"
    target = torch.bitwise_left_shift if left else torch.bitwise_right_shift
    return call.emit(target, call.tensor(0), call.tensor(1))


def p_relu(x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """`x` above zero, `slope * x` below; slopes are broadcast from the last dimension."""
    return torch.where(x < 0, slope * x, x)


writes_as("PRelu", p_relu)


_FOLDED: dict[str, Callable[..., Any]] = {
    "Max": torch.maximum,
    "Min": torch.minimum,
    "Sum": torch.add,
    "Mean": torch.add,
}


@writes("Max Min Sum Mean")
def _folded(call: OnnxCall) -> fx.Node:
    whole = functools.reduce(lambda a, b: call.emit(_FOLDED[call.op], a, b), call.tensors)
    return call.emit(operator.truediv, whole, len(call.tensors)) if call.op == "Mean" else whole
