"""What comes out of training is small and computes what the trained network computes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import autoprune as ap
from autoprune.frameworks.torch.equality import difference
from autoprune.passes import learners
from autoprune.passes.learners.features import float_tensors
from tests.learners.training import STEPS, TIMING, learn, same, state, train
from tests.tolerance import BUDGET, ROUNDING_DOUBLE, ROUNDING_SINGLE
from tests.zoo.small import SMALL


def block(inputs: int, outputs: int, groups: int = 1, affine: bool = True) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, affine=affine),
        nn.ReLU(),
    )


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second = block(3, 8), block(8, 12), block(12, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head((x + self.second(self.first(x))).mean((2, 3)))


def images(seed: int) -> tuple[Tensor]:
    return (torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed)),)


def classifier(*blocks: nn.Module) -> nn.Sequential:
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(4))


class Fourier(nn.Module):
    """Complex weights between two convolutions, as in a Fourier neural operator."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)
        self.spectrum = nn.Parameter(torch.randn(8, 8, 5, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.fft.irfft2(torch.fft.rfft2(self.into(x)) * self.spectrum)).mean(
            (2, 3)
        )


OWN = {
    "fourier": Fourier,
    "conv_norm_relu": lambda: classifier(block(3, 8), block(8, 16)),
    "residual": Residual,
    "grouped": lambda: classifier(block(3, 8), block(8, 16, groups=4), block(16, 8)),
    "depthwise": lambda: classifier(block(3, 8), block(8, 8, groups=8), block(8, 16)),
    "norm_without_weights": lambda: classifier(block(3, 8, affine=False), block(8, 16)),
}

FROM_ZOO = (
    "small_transformer_encoder",
    "small_lstm",
    "small_tied_embedding",
    "small_shuffle",
    "small_shared_conv",
    "small_squeeze_excite",
    "small_qkv_chunk",
    "small_gru_cell",
)

SIZES_IN_FORWARD = ("small_qkv_chunk", "small_gru_cell")
"""Their code states sizes that change, so that the result cannot be of their class."""

FEW = {
    "hesso": learners.HESSO(),
    "dhspg": learners.DHSPG(),
    "lasso": learners.GroupLasso(weighting="plain"),
}

RUNS = {
    f"{name}-{method}": (name, FEW[method])
    for name in (*OWN, *FROM_ZOO)
    for method in FEW
    if method == "hesso" or name in ("conv_norm_relu", "residual", "small_lstm", "small_shuffle")
}


def double(inputs):
    return tuple(t.double() if t.is_floating_point() else t for t in inputs)


def build(name):
    """A network in double precision, example inputs, and others."""
    if name in OWN:
        torch.manual_seed(0)
        model = OWN[name]()
        model(*images(0))
        return model.double().train(), double(images(0)), double(images(1))
    row = next(row for row in SMALL if row.name == name)
    inputs = double(row.inputs())
    return row.build().double().train(), inputs, tuple(t.flip(1) for t in inputs)


def trained(name, method):
    """The network after training, example inputs, other inputs, and what trained it."""
    model, inputs, others = build(name)
    base = torch.optim.AdamW(model.parameters(), lr=0.01)
    pruner, optimizer = learn(method, base, model, inputs)

    def loss(model, step):
        rng = torch.Generator().manual_seed(1)
        return sum(
            (output - torch.randn(output.shape, generator=rng)).square().mean()
            for _, output in float_tensors(model(*inputs))
        )

    torch.manual_seed(0)
    train(model, optimizer, loss)
    return model, inputs, others, pruner, optimizer


@pytest.mark.parametrize(("name", "method"), RUNS.values(), ids=RUNS)
def test_the_small_network_computes_what_the_trained_one_does(name, method):
    model, inputs, others, pruner, optimizer = trained(name, method)
    before, modes = state(model), [module.training for module in model.modules()]
    result = pruner.finish()

    # The user's model is as training left it.
    assert same(model.state_dict(), before)
    assert [module.training for module in model.modules()] == modes

    course, report, small = optimizer.training, result.report, result.model
    with torch.no_grad():
        for batch in (inputs, others):
            assert difference(model.eval()(*batch), small.eval()(*batch)) <= ROUNDING_DOUBLE
    assert sum(row.units - row.kept for row in report.groups) == int(course.zero.sum())
    assert report.before.params == sum(p.numel() for p in model.parameters())
    assert report.after.params == sum(p.numel() for p in small.parameters())
    assert report.after.params < report.before.params
    last = pruner.history[-1]
    assert last.params == report.after.params / report.before.params
    assert last.flops == report.after.flops / report.before.flops
    assert (type(small) is type(model)) == (name not in SIZES_IN_FORWARD)


@pytest.mark.parametrize("name", ["residual", "small_lstm", "small_tied_embedding"])
def test_finishing_twice_gives_the_same(name):
    _, _, _, pruner, _ = trained(name, FEW["hesso"])
    first, second = pruner.finish(), pruner.finish()
    assert first.plan == second.plan
    assert first.model is not second.model
    assert same(first.model.state_dict(), second.model.state_dict())


@pytest.mark.parametrize("name", ["residual", "small_lstm", "small_tied_embedding"])
def test_saved_and_loaded(name, tmp_path):
    _, _, others, pruner, _ = trained(name, FEW["hesso"])
    result = pruner.finish()
    fresh, inputs, _ = build(name)
    loaded = ap.load(fresh, result.save(tmp_path / "small.safetensors"), inputs)
    assert same(loaded.state_dict(), result.model.state_dict())
    with torch.no_grad():
        assert difference(loaded.eval()(*others), result.model.eval()(*others)) == 0


@pytest.mark.parametrize("name", ["residual", "grouped"])
def test_the_trained_model_itself_has_the_zeros(name):
    model, _, _, _, optimizer = trained(name, FEW["hesso"])
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    gone = 0
    for convolution, norm in zip(convolutions, norms, strict=True):
        removed = norm.weight == 0
        assert torch.equal(norm.bias == 0, removed)
        assert torch.equal((convolution.weight == 0).all(dim=(1, 2, 3)), removed)
        gone += int(removed.sum())
    assert gone >= int(optimizer.training.zero.sum())


def test_a_share_of_the_flops_that_is_met():
    model, inputs, _ = build("residual")
    pruner = ap.Pruner(model, inputs, multiple_of=1)
    base = torch.optim.AdamW(model.parameters(), lr=0.01)
    optimizer = pruner.hesso(base, flops=0.4, steps=STEPS, timing=TIMING)
    train(model, optimizer, lambda model, _: model(*inputs).square().mean())
    report = pruner.finish().report
    assert abs(report.after.flops / report.before.flops - 0.4) <= BUDGET


def test_the_small_network_is_trained_further():
    _, inputs, _, pruner, _ = trained("residual", FEW["hesso"])
    small = pruner.finish().model.train()
    optimizer = torch.optim.AdamW(small.parameters(), lr=0.01)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = small(*inputs).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_norms_of_complex_weights_are_those_of_their_magnitudes():
    model = Fourier()
    pruner = ap.Pruner(model, images(0))
    optimizer = pruner.hesso(torch.optim.SGD(model.parameters(), 0.1), channels=0.5, steps=STEPS)
    weights = (model.into.weight, model.into.bias, model.spectrum, model.out.weight.transpose(0, 1))
    expected = sum(w.detach().abs().square().reshape(8, -1).sum(1) for w in weights).sqrt()
    assert difference(expected, optimizer.training.units.norms()) <= ROUNDING_SINGLE
