"""Fourier transforms: every output of the transformed axes depends on all of their inputs."""

from __future__ import annotations

from collections.abc import Iterable

from autoprune.ops.pinning import fixed_shape, mixing, named_dims, one_dim, pin_dims
from autoprune.ops.rule import Operator, first_state, of_first, register
from autoprune.ops.views import Call, Shape, Typing

_REASON = "transformed along it"


def _dims(call: Call) -> Iterable[int]:
    """Those named, or as many as sizes are given, or all."""
    if call.get("dim") is None and call.get("s") is not None:
        return range(-len(call.integers("s")), 0)
    return named_dims(call)


register(
    "aten.fft_fft aten.fft_ifft aten.fft_rfft aten.fft_irfft aten.fft_hfft aten.fft_ihfft",
    mixing(one_dim, _REASON, first_state, homogeneous=of_first),
)
register(
    "aten.fft_fft2 aten.fft_ifft2 aten.fft_rfft2 aten.fft_irfft2 aten.fft_hfft2 aten.fft_ihfft2 "
    "aten.fft_fftn aten.fft_ifftn aten.fft_rfftn aten.fft_irfftn aten.fft_hfftn aten.fft_ihfftn "
    "aten._fft_c2c aten._fft_c2r aten._fft_r2c",
    mixing(_dims, _REASON, first_state, homogeneous=of_first),
)
register(
    "aten.fft_fftshift aten.fft_ifftshift",
    mixing(named_dims, "positions are moved along the axis", first_state, homogeneous=of_first),
)


def _stft_axes(call: Typing) -> list[Shape]:
    """`batch time -> batch frequency frames`, and back; the batch may be missing."""
    shape = call.axes_of("input")
    lost = 2 if "istft" in call.node.op else 1
    batch = shape[: len(shape) - lost]
    pin_dims(call, shape, range(len(batch), len(shape)), _REASON)
    for window in call.tensors[1:]:
        pin_dims(call, call.axes_of(window), (0,), "a window over time")
    return [(*batch, *fixed_shape(call, call.output.shape[len(batch) :], "a spectrum over time"))]


register("aten.stft aten.istft", Operator(axes=_stft_axes, zero=first_state))
