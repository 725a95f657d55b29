"""What cases of ONNX operators are made of: tiny networks, and the groups in them.

Layers whose names start with `z` read what the operator made; `a` feeds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx

from tests.onnx.build import Builder

Z, F, M, C = "zero-invariant", "folded", "masked", "compensated"


@dataclass(frozen=True)
class Case:
    """One network.

    Attributes:
        name: of the test.
        build: the network.
        groups: exactly the groups to find, as `{"a.weight:1[6]": guarantee}`; the rest is pinned.
        opset: version of the standard operators.
        covers: operators that must occur in the graph, without `onnx.`.
    """

    name: str
    build: Callable[[Builder], str]
    groups: Mapping[str, str]
    opset: int = 17
    covers: str = ""

    def model(self, opset: int = 0, *, constants: bool = False) -> onnx.ModelProto:
        builder = Builder(opset or self.opset, constants=constants)
        return builder.model(self.build(builder))


Op = Callable[[Builder, str], str]


def chain(
    name: str,
    op: Op,
    groups: str | Mapping[str, str] | None,
    *,
    covers: str = "",
    opset: int = 17,
    out: int = 6,
) -> Case:
    """Linear 3 -> 6 on rows, the operator, linear out -> 2."""

    def build(b: Builder) -> str:
        x = b.linear("a", b.input("x", (5, 3)), 3, 6)
        return b.linear("z", op(b, x), out, 2)

    found = {"a.weight:1[6]": groups} if isinstance(groups, str) else groups or {}
    return Case(name, build, found, opset, covers or name)


def tokens(
    name: str,
    op: Op,
    groups: str | Mapping[str, str],
    *,
    covers: str = "",
    opset: int = 17,
    width: int = 6,
    out: int = 0,
) -> Case:
    """Linear 3 -> width on 4 tokens, the operator, linear out -> 2."""

    def build(b: Builder) -> str:
        x = b.linear("a", b.input("x", (2, 4, 3)), 3, width)
        return b.linear("z", op(b, x), out or width, 2)

    found = {f"a.weight:1[{width}]": groups} if isinstance(groups, str) else groups
    return Case(name, build, found, opset, covers or name)


def image(
    name: str,
    op: Op,
    groups: str | Mapping[str, str] | None,
    *,
    covers: str = "",
    opset: int = 17,
    out: int = 6,
) -> Case:
    """Convolution 3 -> 6 channels, the operator on maps, mean over pixels, linear out -> 2."""

    def build(b: Builder) -> str:
        x = b.convolution("a", b.input("x", (2, 3, 8, 8)), 3, 6)
        return b.head(op(b, x), out)

    found = {"a.weight:0[6]": groups} if isinstance(groups, str) else groups or {}
    return Case(name, build, found, opset, covers or name)
