"""Feature flow regularization: its value, its stages, and what it refuses."""

import copy
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from autoprune.errors import LearnerError
from autoprune.passes.learners.feature_flow import FeatureFlow, flow_loss
from autoprune.passes.learners.features import find_stages, float_tensors
from tests.learners.networks import Residual, X
from tests.tolerance import ROUNDING_DOUBLE


class Chain(nn.Module):
    """Features x_0, x_1, x_2 that are the input times 1, 2 and 5."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(1, 1, bias=False) for _ in range(3))
        for layer, factor in zip(self.layers, (1.0, 2.0, 2.5), strict=True):
            nn.init.constant_(layer.weight, factor)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


SIGNED = torch.tensor([[1.0], [-2.0], [3.0]], dtype=torch.float64)
"""Its mean of absolute values is 2."""


@pytest.mark.parametrize(("k1", "k2", "expected"), [(1, 0, 8.0), (0, 1, 4.0), (0.5, 0.25, 5.0)])
def test_flow_by_hand(k1, k2, expected):
    # Steps of 1 and 3 times the input, a turn of 2: k1 * (2 + 6) + k2 * 4.
    model = Chain()
    flow = FeatureFlow(model, k1, k2)
    model(SIGNED)
    assert abs(flow.loss().item() - expected) < ROUNDING_DOUBLE


def test_gradients_by_hand():
    model = Chain()
    flow = FeatureFlow(model, 1.0, 1.0)
    model(SIGNED)
    flow.loss().backward()
    # With factors a, b, c: 2 a ((b - 1) + b (c - 1) + (b c - 2 b + 1)) = 2 a (2 b c - 2 b).
    gradients = [layer.weight.grad.item() for layer in model.layers]
    expected = [12.0, 6.0, 8.0]
    torch.testing.assert_close(gradients, expected, rtol=0, atol=ROUNDING_DOUBLE)


def test_two_features_have_no_curvature():
    first, second = torch.zeros(2, 2), torch.tensor([[1.0, -1.0], [3.0, 3.0]])
    assert flow_loss([first, second], k1=1, k2=100) == 2


def test_a_stage_ends_where_the_shape_changes():
    model = nn.Sequential(
        *(nn.Linear(a, b) for a, b in [(4, 5), (5, 5), (5, 6), (6, 6), (6, 6), (6, 2)])
    )
    model.double()
    flow = FeatureFlow(model, 1.0, 1.0)
    features, x = [], X
    for layer in model[:5]:
        x = layer(x)
        features.append(x)
    model(X)
    expected = flow_loss(features[:2], 1.0, 1.0) + flow_loss(features[2:], 1.0, 1.0)
    torch.testing.assert_close(flow.loss(), expected, rtol=0, atol=ROUNDING_DOUBLE)


def test_stages_are_apart_and_named_modules_are_one():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
            self.b = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
            self.double()

        def forward(self, x):
            return self.b(self.a(x))

    model, features, x = Two(), [], X
    for layer in (*model.a, *model.b):
        x = layer(x)
        features.append(x)
    apart = FeatureFlow(model, 1.0, 2.0)
    named = FeatureFlow(model, 1.0, 2.0, features=["b.1", "b.0", "a.1", "a.0"])
    model(X)
    expected = flow_loss(features[:2], 1.0, 2.0) + flow_loss(features[2:], 1.0, 2.0)
    torch.testing.assert_close(apart.loss(), expected, rtol=0, atol=ROUNDING_DOUBLE)
    expected = flow_loss(features, 1.0, 2.0)
    torch.testing.assert_close(named.loss(), expected, rtol=0, atol=ROUNDING_DOUBLE)


def test_training_passes_add_up_and_others_do_not_count():
    model = Chain()
    flow = FeatureFlow(model, 1.0, 0.0)
    model(SIGNED)
    model(2 * SIGNED)
    model.eval()(SIGNED)
    assert flow.pending == 2
    assert abs(flow.loss().item() - 24) < ROUNDING_DOUBLE
    with pytest.raises(LearnerError, match="training mode"):
        flow.loss()


def test_autocast_differences_are_taken_in_single_precision():
    model = Chain().float()
    flow = FeatureFlow(model, 1.0, 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        model(SIGNED.float())
        loss = flow.loss()
    loss.backward()
    assert loss.dtype == torch.float32
    assert abs(loss.item() - 12) < 0.1
    assert all(layer.weight.grad.isfinite() for layer in model.layers)


def test_closing_leaves_the_model_as_it_was():
    model = Residual()
    state = copy.deepcopy(model.state_dict())
    flow = FeatureFlow(model, 1.0, 1.0)
    model(X)
    flow.close()
    assert flow.pending == 0
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)


def test_weights_and_modules_are_checked():
    with pytest.raises(LearnerError, match="0 or more, got -1 and 1"):
        FeatureFlow(Chain(), -1, 1)
    with pytest.raises(LearnerError, match=r"no module `layers\.7`"):
        FeatureFlow(Chain(), 1, 1, ["layers.0", "layers.7"])
    with pytest.raises(LearnerError, match="needs two"):
        FeatureFlow(nn.Linear(2, 2), 1, 1)


def test_features_of_different_shapes_only_are_refused():
    model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 6), nn.Linear(6, 2)).double()
    FeatureFlow(model, 1, 1)
    with pytest.raises(LearnerError, match="same shape") as error:
        model(X)
    assert "`1`: (6, 6)" in str(error.value)


def block() -> nn.Module:
    return nn.Sequential(
        OrderedDict(conv=nn.Conv2d(3, 3, 1), norm=nn.BatchNorm2d(3), act=nn.ReLU())
    )


def test_stages_are_outermost_lists_of_blocks():
    model = nn.Module()
    model.stem = nn.Conv2d(3, 3, 1)
    model.body = nn.Module()
    model.body.layers = nn.ModuleList([block(), nn.ReLU(), block()])
    model.heads = nn.ModuleList([nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])])
    model.single = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    assert find_stages(model) == (("body.layers.0", "body.layers.2"), ("heads.0.0", "heads.0.1"))


def test_lists_that_are_not_called_are_looked_into():
    model = nn.Module()
    model.heads = nn.ModuleList(
        [nn.ModuleList([nn.Linear(2, 2)] * 2 + [block()]), nn.ModuleList([block()])]
    )
    assert find_stages(model) == (("heads.0.0", "heads.0.2"), ("heads.1.0.conv", "heads.1.0.norm"))


def test_without_lists_the_children_but_the_last_are_the_stage():
    model = nn.Module()
    model.a, model.act, model.b, model.c = nn.Linear(2, 2), nn.ReLU(), block(), nn.Linear(2, 2)
    model.b = nn.Linear(2, 2)
    assert find_stages(model) == (("a", "b"),)
    assert find_stages(nn.Sequential(block(), block(), nn.Linear(2, 2))) == (("0", "1"),)
    assert find_stages(nn.Linear(2, 2)) == ()


def test_tensors_of_an_output_have_the_names_of_their_fields():
    one, whole = torch.zeros(1), torch.zeros(1, dtype=torch.long)
    output = {"a": one, "b": [one, whole, (one, None)], 3: {"c": one}}
    assert [name for name, _ in float_tensors(output)] == ["a", "b", "b", "c"]
