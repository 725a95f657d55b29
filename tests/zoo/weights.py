"""Random weights under which every channel matters, so that a wrong slice shows in the output.

Freshly built networks hide mistakes: biases are 0, norm gains are 1, residual branches start at 0
or 1e-6, attention is uniform because the logits are tiny. `build` removes all of that:

    model = build(lambda: torchvision.models.resnet18(weights=None), (torch.randn(2, 3, 64, 96),))

What to change is found by value (constant, or tiny for its fan-in), never by parameter name.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Inputs = tuple[Any, ...] | dict[str, Any]


def build(make: Callable[[], nn.Module], inputs: Inputs, seed: int = 0) -> nn.Module:
    """The eval-mode model of `make` with every weight drawn from `seed`; leaves torch's RNG alone.

    The norms that keep running statistics are fitted to `inputs` first, as training would: in a
    deep network arbitrary ones make the signal vanish.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make().float().eval()
        randomize_norms(model, seed)
        if any(_keeps_statistics(module) for module in model.modules()):
            fitted = copy.deepcopy(model)  # some models cache tensors in their first forward
            fit_statistics(fitted, inputs, seed)
            model.load_state_dict(fitted.state_dict())
    return model


def call(model: Callable[..., Any], inputs: Inputs) -> Any:
    """`model(*inputs)` for a tuple, `model(**inputs)` for a dict."""
    return model(**inputs) if isinstance(inputs, dict) else model(*inputs)


@torch.no_grad()
def randomize_norms(model: nn.Module, seed: int) -> None:
    """Redraw in place whatever is constant or too small: gains, biases, scales, running statistics.

    Gains become U(.5, 1.5), biases N(0, .1), running means N(0, .1), running variances U(.5, 1.5);
    matrices whose output would be less than half their input are scaled up to keep its size.
    """
    rng = torch.Generator().manual_seed(seed)
    for module in model.modules():
        gain = getattr(module, "weight", None)
        if _is_norm(module) and isinstance(gain, Tensor) and not gain.any():
            gain.fill_(1)  # zero-initialised residual gain: a gain, not a bias
        if _keeps_statistics(module):
            module.running_mean.normal_(0, 0.1, generator=rng)
            module.running_var.uniform_(0.5, 1.5, generator=rng)
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.numel():
            _redraw(parameter, rng)


@torch.no_grad()
def fit_statistics(model: nn.Module, inputs: Inputs, seed: int) -> None:
    """Centre the running statistics of every norm on what it sees in one forward of `inputs`.

    Means become the mean of the whole activation plus N(0, .1) deviations, variances its variance
    times U(.5, 1.5): still a different number for each channel, and its output is of size 1.
    """
    rng = torch.Generator().manual_seed(seed)

    def fit(norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        variance, mean = torch.var_mean(args[0])
        noise = torch.randn(norm.running_mean.shape, generator=rng)
        norm.running_mean.copy_(mean + variance.sqrt() * noise * 0.1)
        norm.running_var.copy_(variance * (torch.rand(noise.shape, generator=rng) + 0.5))

    norms = filter(_keeps_statistics, model.modules())
    hooks = [norm.register_forward_pre_hook(fit) for norm in norms]
    call(model, inputs)
    for hook in hooks:
        hook.remove()


def _keeps_statistics(module: nn.Module) -> bool:
    return isinstance(getattr(module, "running_var", None), Tensor)


def _is_norm(module: nn.Module) -> bool:
    return _keeps_statistics(module) or isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.RMSNorm)


def _redraw(parameter: Tensor, rng: torch.Generator) -> None:
    size = parameter.square().mean().sqrt().item()
    constant = bool(parameter.min() == parameter.max())
    fan_in = _fan_in(parameter)
    if parameter.numel() == 1:
        if size < 1e-2:
            parameter.fill_(0.5)
    elif constant and size:
        parameter.uniform_(0.5, 1.5, generator=rng)
        if size > 1e-2:  # below, it is a residual scale that starts switched off
            parameter *= size
    elif constant:
        parameter.normal_(0, 1 / math.sqrt(fan_in) if fan_in > 1 else 0.1, generator=rng)
    elif fan_in == 1:
        if size < 0.05:
            parameter *= 0.1 / size
    elif size * math.sqrt(fan_in) < 0.5:
        parameter /= size * math.sqrt(fan_in)


def _fan_in(parameter: Tensor) -> int:
    """How many inputs one output sums: all axes but the first, 1 for a vector."""
    shape = [size for size in parameter.shape if size > 1]
    leading = parameter.shape[0] if parameter.dim() and parameter.shape[0] > 1 else None
    if leading is None:  # (1, tokens, width) is a table: its rows are its outputs
        leading = shape[0] if len(shape) > 1 else parameter.numel()
    return parameter.numel() // leading
