"""The Gram matrices are those of what layers multiply by their weights."""

import numpy as np
import pytest
import torch
from torch import nn

import autoprune as ap
from autoprune.frameworks.torch.trace import as_inputs
from autoprune.passes.sparsify.gram import Calibration
from autoprune.passes.sparsify.torch_model import calibrated
from autoprune.passes.sparsify.weights import find_weights
from tests.sparsity.networks import mlp
from tests.tolerance import ROUNDING_DOUBLE

CONVOLUTIONS = {
    "strided": (nn.Conv2d(4, 6, 3, stride=2, padding=1), (2, 4, 7, 8)),
    "dilated": (nn.Conv2d(4, 6, 3, dilation=2, padding="same"), (2, 4, 9, 9)),
    "even": (nn.Conv1d(4, 6, 4, padding="same"), (2, 4, 9)),
    "reflected": (nn.Conv2d(4, 6, 3, padding=(1, 2), padding_mode="reflect"), (2, 4, 6, 6)),
    "volume": (nn.Conv3d(4, 6, (1, 2, 3), padding=(0, 1, 1)), (2, 4, 3, 4, 5)),
}


def calibration(model: nn.Module, *batches) -> Calibration:
    inputs = [as_inputs(batch) for batch in batches]
    return calibrated(model.eval(), inputs)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(("layer", "shape"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_quadratic_forms_are_sums_of_squared_outputs(layer, shape):
    torch.manual_seed(0)
    model = nn.Sequential(layer.double())
    (weight,), _ = find_weights(model, {"*": "csr"}, ())
    x = torch.randn(shape, dtype=torch.float64)
    gram = calibration(model, x).gram("0.weight")
    matrix = weight.matrix(weight.parameter).detach().numpy()
    with torch.no_grad():
        layer.bias.zero_()
        squares = model(x).square().movedim(1, 0).flatten(1).sum(1).numpy()
    np.testing.assert_allclose(np.diag(matrix @ gram @ matrix.T), squares, rtol=ROUNDING_DOUBLE)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x, *, scale=1.0):
        return self.layer(input=self.layer(x) * scale)


def test_all_calls_of_all_batches_count_whatever_their_arguments():
    torch.manual_seed(0)
    model = Twice().double()
    batches = [torch.randn(3, 6).double(), {"x": torch.randn(2, 4, 6).double(), "scale": 2.0}]
    gram = calibration(model, *batches).gram("layer.weight")
    rows = []
    for x, scale in ((batches[0], 1.0), (batches[1]["x"], 2.0)):
        rows += [x.reshape(-1, 6), (model.layer(x) * scale).reshape(-1, 6)]
    expected = (torch.cat(rows).T @ torch.cat(rows)).detach().numpy()
    np.testing.assert_allclose(gram, expected, rtol=0, atol=ROUNDING_DOUBLE)


class Shared(nn.Module):
    """Two linear layers with one weight, and two convolutions that stride differently."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.narrow, self.wide = nn.Conv1d(2, 2, 3), nn.Conv1d(2, 2, 3, stride=2)
        self.wide.weight = self.narrow.weight

    def forward(self, x):
        y = self.second(self.first(x).relu())
        return self.narrow(y.view(-1, 2, 3)) + self.wide(x.view(-1, 2, 3))


def test_all_layers_that_share_a_weight_count():
    torch.manual_seed(0)
    model, x = Shared().double(), torch.randn(5, 6, dtype=torch.float64)
    seen = calibration(model, x)
    hidden = model.first(x).relu()
    rows = torch.cat([x, hidden]).detach().numpy()
    np.testing.assert_allclose(seen.gram("first.weight"), rows.T @ rows, atol=ROUNDING_DOUBLE)
    # All of a row of three is one window, whose taps come before its channels.
    images = torch.cat([model.second(hidden), x]).view(-1, 2, 3).transpose(1, 2).flatten(1)
    rows = images.detach().numpy()
    np.testing.assert_allclose(seen.gram("narrow.weight"), rows.T @ rows, atol=ROUNDING_DOUBLE)


def test_layers_see_what_those_before_them_became():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)).double(), torch.randn(5, 4).double()
    seen = calibration(model, x)
    before = seen.gram("1.weight")
    seen.gram("0.weight")
    seen.change("0.weight", np.zeros((3, 4)))
    rows = model[0].bias.detach().expand(5, 3).numpy()
    after = seen.gram("1.weight")
    np.testing.assert_allclose(after, rows.T @ rows, rtol=0, atol=ROUNDING_DOUBLE)
    assert not np.allclose(before, after)


class Spare(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, _ = mlp()
        self.spare = nn.Linear(16, 16)

    def forward(self, x):
        return self.used(x)


def test_a_layer_that_is_not_called_is_chosen_by_magnitude():
    model, (_, x) = Spare(), mlp()
    result = ap.sparsify(model, format="csr", calibration=[x])
    errors = {row.name: row.error for row in result.report.rows}
    assert errors.pop("spare.weight") is None
    assert all(error > 0 for error in errors.values())
    kept = model.spare.weight.detach().abs()
    mask = result.masks["spare.weight"]
    assert kept[mask].min() >= kept[~mask].max()
    assert int(mask.sum()) == round(0.2 * 256)
