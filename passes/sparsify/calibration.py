"""Second moments of the inputs of layers, gathered on calibration data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from autoprune.errors import AutopruneError
from autoprune.frameworks.torch.causes import summary
from autoprune.frameworks.torch.objects import Inputs, input_leaves
from autoprune.frameworks.torch.trace import as_inputs
from autoprune.passes.sparsify.weights import Calls, Weight


def batches_of(calibration: Iterable[Any]) -> tuple[Inputs, ...]:
    """Calibration data as arguments of forward passes.

    Args:
        calibration: what to run the network on, each as `example_inputs` of `prune`.

    Raises:
        AutopruneError: if it is a tensor or empty, or can be read only once and is used up.
    """
    if isinstance(calibration, Tensor):
        raise AutopruneError(
            "calibration is an iterable of inputs, not a tensor",
            hint="give [x] for one batch, or x.split(32) for several",
        )
    batches = tuple(as_inputs(batch) for batch in calibration)
    if not batches:
        raise AutopruneError("the calibration data is empty")
    return batches


def correctable(weight: Weight) -> bool:
    """Whether the inputs of a weight are known, and every output reads all of them."""
    calls = weight.calls
    return calls is not None and calls.groups == 1


@torch.no_grad()
def second_moments(model: nn.Module, weight: Weight, batches: Sequence[Inputs]) -> Tensor | None:
    """`X^T X` of the inputs X [samples, inputs] that a weight is multiplied by.

    Args:
        model: the network, in evaluation mode.
        weight: one of its weights.
        batches: calibration data.

    Returns:
        Of dtype float64, shape [inputs, inputs]; None if no forward pass came to the layer.

    Raises:
        AutopruneError: if the network does not run on one of the batches.
    """
    _, inputs = weight.shape
    gram = torch.zeros(inputs, inputs, dtype=torch.float64, device=weight.parameter.device)
    seen = 0

    def add(x: Tensor) -> None:
        nonlocal seen
        rows = unfolded(x, weight).to(torch.float64)
        gram.addmm_(rows.T, rows)
        seen += len(rows)

    for batch in batches:
        try:
            _watched(model, weight, batch, add)
        except Exception as error:
            raise AutopruneError(
                f"the network does not run on the calibration data: {summary(error)}",
                hint="each item is what the network is called with, without labels: "
                "calibration=[x for x, label in loader]",
            ) from error
    return gram if seen else None


def _watched(
    model: nn.Module, weight: Weight, batch: Inputs, consume: Callable[[Tensor], None]
) -> None:
    """A forward pass that shows what a layer is called on."""
    calls = weight.calls
    assert calls is not None
    names = [place for place in calls.place if isinstance(place, str)]
    if names:
        assert isinstance(model, fx.GraphModule)
        _Tap(model, names, consume).run(*input_leaves(batch))
        return

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        consume(args[0] if args else kwargs["input"])

    modules = [place for place in calls.place if isinstance(place, nn.Module)]
    handles = [module.register_forward_pre_hook(hook, with_kwargs=True) for module in modules]
    try:
        model(*batch.args, **batch.kwargs)
    finally:
        for handle in handles:
            handle.remove()


class _Tap(fx.Interpreter):
    """Runs a graph and shows the first argument of some calls."""

    def __init__(
        self, module: fx.GraphModule, calls: Sequence[str], consume: Callable[[Tensor], None]
    ) -> None:
        super().__init__(module)
        self._calls = frozenset(calls)
        self._consume = consume

    def run_node(self, n: fx.Node) -> Any:
        if n.name in self._calls:
            (first, *_), _ = self.fetch_args_kwargs_from_env(n)
            self._consume(first)
        return super().run_node(n)


def unfolded(x: Tensor, weight: Weight) -> Tensor:
    """The inputs of a layer as a matrix, whose product with the weight's are the outputs.

    Args:
        x: of a linear layer [..., inputs], of a convolution [batch, channels, *size] or without
            the batch.
        weight: the weight.

    Returns:
        Shape [samples, kernel * inputs].
    """
    calls = weight.calls
    assert calls is not None
    if calls.kind == "linear":
        return x.reshape(-1, x.shape[-1])
    kernel = weight.parameter.shape[2:]
    if x.ndim == len(kernel) + 1:
        x = x[None]
    x = _padded(x, kernel, calls)
    for dim, (size, stride, dilation) in enumerate(
        zip(kernel, calls.stride, calls.dilation, strict=True)
    ):
        # Windows move to the end: [batch, channels, *places, *windows].
        x = x.unfold(2 + dim, dilation * (size - 1) + 1, stride)[..., ::dilation]
    places = range(2, 2 + len(kernel))
    windows = range(2 + len(kernel), x.ndim)
    return x.permute(0, *places, *windows, 1).reshape(-1, weight.shape[1])


def _padded(x: Tensor, kernel: Sequence[int], calls: Calls) -> Tensor:
    if calls.padding == "valid":
        return x
    sides: list[int] = []
    for dim, (size, dilation) in enumerate(zip(kernel, calls.dilation, strict=True)):
        if isinstance(calls.padding, str):
            total = dilation * (size - 1)
            sides = [total // 2, total - total // 2, *sides]
        else:
            sides = [calls.padding[dim], calls.padding[dim], *sides]
    if not any(sides):
        return x
    mode = "constant" if calls.padding_mode == "zeros" else calls.padding_mode
    return functional.pad(x, sides, mode=mode)
