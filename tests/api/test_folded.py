"""Units that leave a constant, which the next layer's bias takes up."""

import pytest
import torch
from torch import Tensor, nn

import autoprune as ap
from autoprune.errors import TraceError
from tests.tolerance import DIFFERENT, ROUNDING_DOUBLE

VECTORS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).double()
IMAGES = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0)).double()


def sequential(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*layers).double().eval()


def dense() -> nn.Sequential:
    return sequential(nn.Linear(4, 16), nn.Sigmoid(), nn.Linear(16, 3))


def convolutional() -> nn.Sequential:
    """Two folds in a row, and one through flattened positions."""
    return sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.Softplus(),
        nn.Conv2d(8, 12, 3), nn.Sigmoid(),
        nn.Flatten(), nn.Linear(12 * 49, 2),
    )  # fmt: skip


def grouped() -> nn.Sequential:
    return sequential(
        nn.Conv2d(3, 8, 1), nn.Sigmoid(), nn.Conv2d(8, 12, 3, groups=2), nn.ReLU(),
        nn.Conv2d(12, 2, 1),
    )  # fmt: skip


CASES = [(dense, VECTORS), (convolutional, IMAGES), (grouped, IMAGES)]


def producers_zeroed(model: nn.Sequential, result: ap.Result, x: Tensor) -> Tensor:
    """The original with the rows of removed units zero, and every column as it was."""
    state = {k: v.clone() for k, v in model.state_dict().items()}
    for name, choice in result.plan.groups.items():
        if "/" in name:
            continue
        layer = name.split(".")[0]
        gone = sorted(set(range(choice.units)) - set(choice.kept))
        state[f"{layer}.weight"][gone] = 0
        state[f"{layer}.bias"][gone] = 0
    return torch.func.functional_call(model, state, x)


@pytest.mark.parametrize(("make", "x"), [*CASES[:2], (dense, VECTORS[0])])
@pytest.mark.parametrize("keep_class", [True, False])
def test_the_bias_takes_up_the_constant(make, x, keep_class):
    model = make()
    options = ap.Options(keep_class=keep_class)
    result = ap.prune(model, x, channels=0.5, multiple_of=1, options=options)
    assert {g.guarantee for g in result.report.groups} == {"folded"}
    assert result.report.module == ("same class" if keep_class else "GraphModule")
    expected = producers_zeroed(model, result, x)
    torch.testing.assert_close(result.model(x), expected, rtol=0, atol=ROUNDING_DOUBLE)
    assert (model(x) - expected).abs().max() > DIFFERENT


def test_nothing_shows_no_constant():
    with pytest.raises(TraceError, match="is given nothing"):
        ap.prune(dense(), VECTORS[:0], channels=0.5, multiple_of=1)


def test_grouped_convolutions_fold_group_by_group():
    result = ap.prune(grouped(), IMAGES, channels=0.5, multiple_of=1)
    assert "folded" in {g.guarantee for g in result.report.groups}
    assert result.report.error <= ROUNDING_DOUBLE


@pytest.mark.parametrize(
    "reader",
    [
        pytest.param(nn.Conv2d(8, 2, 3, padding=1), id="the border sees no constant"),
        pytest.param(nn.Conv2d(8, 2, 3, bias=False), id="no bias"),
        pytest.param(nn.ConvTranspose2d(8, 2, 3), id="windows overlap less at the border"),
        pytest.param(
            nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(8, 2, 3)), id="zeros around the constant"
        ),
        pytest.param(
            nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.Conv2d(8, 2, 1)), id="zeros in the average"
        ),
    ],
)
def test_what_no_bias_can_take_up_is_masked(reader):
    model = sequential(nn.Conv2d(3, 8, 3), nn.Sigmoid(), reader)
    result = ap.prune(model, IMAGES, channels=0.5, multiple_of=1)
    assert [g.guarantee for g in result.report.groups] == ["masked"]
    assert result.report.error <= ROUNDING_DOUBLE


def test_a_plan_with_folds_needs_inputs_and_its_checkpoint_does_not(tmp_path):
    model = dense()
    result = ap.prune(model, VECTORS, channels=0.5, multiple_of=1)
    assert result.plan.folded == ("2.bias",)
    with pytest.raises(ap.PlanError, match=r"constants are added to biases such as 2\.bias"):
        ap.apply_plan(model, result.plan)
    again = ap.apply_plan(model, result.plan, VECTORS)
    torch.testing.assert_close(again(VECTORS), result.model(VECTORS), rtol=0, atol=0)
    loaded = ap.load(dense(), result.save(tmp_path / "small.safetensors"))
    torch.testing.assert_close(loaded(VECTORS), result.model(VECTORS), rtol=0, atol=0)
