"""The second moments are those of what layers multiply by their weights."""

import pytest
import torch
from torch import nn

import autoprune as ap
from autoprune.frameworks.torch.trace import as_inputs, trace
from autoprune.passes.sparsify.blocks import CSR
from autoprune.passes.sparsify.calibration import second_moments, unfolded
from autoprune.passes.sparsify.weights import find_weights
from tests.sparsity.networks import mlp
from tests.tolerance import ROUNDING_DOUBLE

CONVOLUTIONS = {
    "pointwise": (nn.Conv2d(4, 6, 1), (2, 4, 5, 5)),
    "strided": (nn.Conv2d(4, 6, 3, stride=2, padding=1), (2, 4, 7, 8)),
    "uneven": (nn.Conv2d(4, 6, (3, 1), stride=(1, 2), padding=(2, 0)), (2, 4, 6, 5)),
    "dilated": (nn.Conv2d(4, 6, 3, dilation=2, padding="same"), (2, 4, 9, 9)),
    "even": (nn.Conv1d(4, 6, 4, padding="same"), (2, 4, 9)),
    "valid": (nn.Conv1d(4, 6, 3, padding="valid"), (2, 4, 9)),
    "reflected": (nn.Conv2d(4, 6, 3, padding=(1, 2), padding_mode="reflect"), (2, 4, 6, 6)),
    "volume": (nn.Conv3d(4, 6, (1, 2, 3), padding=(0, 1, 1)), (2, 4, 3, 4, 5)),
    "without_batch": (nn.Conv2d(4, 6, 3), (4, 5, 5)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(("layer", "shape"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_unfolded_inputs_times_weights_are_the_outputs(layer, shape):
    torch.manual_seed(0)
    layer = nn.Sequential(layer.double())
    (weight,) = find_weights(layer, {"*": "csr"}, ()).weights
    x = torch.randn(shape, dtype=torch.float64)
    rows = unfolded(x, weight) @ weight.matrix(weight.parameter).T + layer[0].bias
    outputs = layer(x)
    outputs = outputs[None] if len(shape) == layer[0].weight.ndim - 1 else outputs
    torch.testing.assert_close(
        rows, outputs.movedim(1, -1).reshape(rows.shape), rtol=0, atol=ROUNDING_DOUBLE
    )


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x, *, scale=1.0):
        return self.layer(input=self.layer(x) * scale)


def test_all_calls_of_all_batches_count():
    torch.manual_seed(0)
    model = Twice().double()
    batches = [torch.randn(3, 6).double(), {"x": torch.randn(2, 4, 6).double(), "scale": 2.0}]
    (weight,) = find_weights(model, "csr", ()).weights
    gram = second_moments(model, weight, [as_inputs(batch) for batch in batches])
    rows = []
    for x, scale in ((batches[0], 1.0), (batches[1]["x"], 2.0)):
        rows += [x.reshape(-1, 6), (model.layer(x) * scale).reshape(-1, 6)]
    expected = torch.cat(rows).T @ torch.cat(rows)
    torch.testing.assert_close(gram, expected, rtol=0, atol=ROUNDING_DOUBLE)


def test_graphs_and_modules_see_the_same():
    model, x = mlp()
    graph = trace(model, x).module
    for ours, theirs in zip(
        find_weights(model, CSR(), ()).weights, find_weights(graph, CSR(), ()).weights, strict=True
    ):
        assert ours.name == theirs.name
        inputs = [as_inputs(x)]
        torch.testing.assert_close(
            second_moments(model, ours, inputs), second_moments(graph, theirs, inputs)
        )


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
    linear, convolution = find_weights(model, {"*": "csr"}, ()).weights
    rows = torch.cat([x, model.first(x).relu()])
    gram = second_moments(model, linear, [as_inputs(x)])
    torch.testing.assert_close(gram, rows.T @ rows, rtol=0, atol=ROUNDING_DOUBLE)
    assert second_moments(model, convolution, [as_inputs(x)]) is None


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
