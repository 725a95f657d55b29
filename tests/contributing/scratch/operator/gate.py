"""`scratch::gate`: x tanh(y), position by position."""

from autoprune.ops.elementwise import elementwise_axes
from autoprune.ops.rule import Operator, product, register

register(
    "scratch.gate",
    Operator(axes=elementwise_axes, zero=lambda call: product(map(call.state, call.tensors))),
)
