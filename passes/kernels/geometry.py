"""Kernel size, stride, dilation and padding of a convolution in two dimensions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

Pair = tuple[int, int]
"""Along the height and along the width."""

TOGETHER = 4
"""Bytes that are added up at once; channels of a plane of bytes."""


def groups_of(width: int) -> Iterator[range]:
    """Taps of a row that are multiplied by bytes at once."""
    for first in range(0, width, TOGETHER):
        yield range(first, min(first + TOGETHER, width))


@dataclass(frozen=True)
class Geometry:
    """Where the taps of a convolution are.

    Attributes:
        kernel: taps.
        stride: positions from one output to the next.
        dilation: positions from one tap to the next.
        begin: zeros before the first position.
        end: zeros after the last one.
    """

    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    begin: Pair = (0, 0)
    end: Pair = (0, 0)

    @property
    def taps(self) -> int:
        """Of one channel."""
        return prod(self.kernel)

    @property
    def unpadded(self) -> Geometry:
        """The same taps without padding, which is up to whoever calls a kernel."""
        return Geometry(self.kernel, self.stride, self.dilation)

    @property
    def pointwise(self) -> bool:
        """Whether every output position needs the input at that position alone."""
        return self.kernel == self.stride == (1, 1) and self.begin == self.end == (0, 0)

    @property
    def gap(self) -> int | None:
        """Elements between rows that a depthwise convolution of this kind needs.

        None if it has no operator: without a stride, the width has to stay.
        """
        reach = self.dilation[1] * (self.kernel[1] - 1)
        if self.stride != (1, 1):
            return reach // self.stride[1]
        if self.begin[1] + self.end[1] != reach:
            return None
        return max(self.begin[1], self.end[1])

    def attributes(self) -> dict[str, int]:
        """As the operators take it."""
        return {
            f"{name}_{axis}": getattr(self, name)[place]
            for name in ("kernel", "stride", "dilation", "begin", "end")
            for place, axis in enumerate("hw")
        }


POINT = Geometry()
"""One tap, as linear layers have."""
