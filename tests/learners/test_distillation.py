"""Distillation: the values of its terms, which passes count, and that it leaves the model alone."""

import copy
import io
import math
import pickle
from collections import OrderedDict
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.errors import LearnerError
from autoprune.frameworks.torch.trace import trace
from autoprune.passes.learners.distillation import (
    Distillation,
    Teacher,
    find_logits,
    logits_loss,
    squarehead_loss,
)
from tests.learners.networks import Residual, X, perturbed
from tests.tolerance import DIFFERENT, ROUNDING_DOUBLE

SQUAREHEAD = Distillation("squarehead")
KINDS = [Distillation("logits"), SQUAREHEAD]


def equal(a: Tensor | float, b: Tensor | float) -> bool:
    a, b = (x.item() if isinstance(x, Tensor) else x for x in (a, b))
    return abs(a - b) <= ROUNDING_DOUBLE


def taught(distillation: Distillation = SQUAREHEAD) -> tuple[nn.Module, Teacher]:
    """A student and its teacher, which are no longer the same."""
    model = Residual()
    teacher = Teacher(model, distillation)
    perturbed(model)
    return model, teacher


def term(model: nn.Module, teacher: Teacher, *inputs: Tensor) -> float:
    model(*(inputs or (X,)))
    return teacher.loss().item()


def test_logits_by_hand():
    # Two classes at temperature 2: shares 1/2, 1/2 of the teacher, 1/4, 3/4 of the student.
    student = torch.tensor([[0.0, 2 * math.log(3)]], dtype=torch.float64)
    by_hand = 2**2 * (0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75))
    assert equal(logits_loss(student, torch.zeros_like(student), 2.0), by_hand)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_logits_are_the_divergence_of_torch(temperature):
    student, teacher = torch.randn(2, 6, 5).double()
    inputs = F.log_softmax(student / temperature, -1), F.softmax(teacher / temperature, -1)
    expected = temperature**2 * F.kl_div(*inputs, reduction="batchmean")
    assert equal(logits_loss(student, teacher, temperature), expected)


def test_classes_are_on_the_last_axis_of_tokens_and_on_axis_1_of_images():
    student, teacher = torch.randn(2, 2, 3, 4, 5).double()
    rows = [x.movedim(1, -1).reshape(-1, 3) for x in (student, teacher)]
    assert equal(logits_loss(student, teacher, 1), logits_loss(*rows, 1))
    assert equal(
        logits_loss(student[0], teacher[0], 1, axis=0), logits_loss(*(r[:20] for r in rows), 1)
    )
    tokens = [x.flatten(0, 1) for x in (student, teacher)]
    assert equal(logits_loss(*tokens, 1), logits_loss(*(t.flatten(0, 1) for t in tokens), 1))


def test_masked_classes_weigh_nothing():
    mask = torch.tensor([0.0, float("-inf"), 0.0, 0.0])
    student, teacher = torch.randn(2, 3, 4).double()
    student.requires_grad_()
    loss = logits_loss(student + mask, teacher + mask, 2.0)
    assert equal(loss, logits_loss(student[:, mask == 0], teacher[:, mask == 0], 2.0))
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient.isfinite().all()
    assert not gradient[:, 1].any()


def test_squarehead_by_hand():
    student = {("a", 0): torch.tensor([2.0, 0.0]), ("b", 0): torch.tensor([[3.0, 3.0]])}
    teacher = {("a", 0): torch.tensor([1.0, 2.0]), ("b", 0): torch.tensor([[4.0, 0.0]])}
    # (1 + 4) / (1 + 4) of a, (1 + 9) / (16 + 0) of b.
    assert squarehead_loss(student, teacher) == 1.625


def test_features_that_only_one_computed_do_not_count():
    both = {("a", 0): torch.ones(2), ("b", 0): torch.ones(2)}
    assert squarehead_loss({("b", 0): torch.zeros(2)}, both) == 1
    with pytest.raises(LearnerError, match="no feature in common"):
        squarehead_loss({("b", 1): torch.zeros(2)}, both)


def test_a_feature_of_zeros_stays_finite():
    assert squarehead_loss({("a", 0): torch.zeros(2)}, {("a", 0): torch.zeros(2)}) == 0
    assert squarehead_loss({("a", 0): torch.ones(2)}, {("a", 0): torch.zeros(2)}).isfinite()


def test_squarehead_adds_features_to_logits():
    model, teacher = taught()
    original = copy.deepcopy(teacher.network)
    loss = term(model, teacher)
    features, expected, outputs = [], [], []
    for network, found in ((model, features), (original, expected)):
        hooks = [
            b.register_forward_hook(lambda *a, f=found: f.append(a[2])) for b in network.blocks
        ]
        outputs.append(network(X))
        for hook in hooks:
            hook.remove()
    normalized = [
        F.mse_loss(mine, theirs) / F.mse_loss(theirs, torch.zeros_like(theirs))
        for mine, theirs in zip(features, expected, strict=True)
    ]
    assert equal(loss, sum(normalized) + logits_loss(*outputs, SQUAREHEAD.temperature))


@pytest.mark.parametrize("distillation", KINDS)
def test_a_student_like_its_teacher_has_nothing_to_learn(distillation):
    model = Residual()
    assert term(model, Teacher(model, distillation)) == 0


@pytest.mark.parametrize("distillation", KINDS)
def test_only_the_student_gets_gradients(distillation):
    model, teacher = taught(distillation)
    before = copy.deepcopy(teacher.network.state_dict())
    model(X)
    teacher.loss().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.stem.parameters())
    assert all(p.grad is None and not p.requires_grad for p in teacher.network.parameters())
    torch.testing.assert_close(teacher.network.state_dict(), before, rtol=0, atol=0)


def test_a_teacher_from_outside_gets_no_gradients_though_it_is_trainable():
    model, network = perturbed(Residual()), Residual()
    teacher = Teacher(model, SQUAREHEAD, network)
    model(X)
    teacher.loss().backward()
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


def test_the_loss_falls_when_it_is_followed():
    model, teacher = taught()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for _ in range(20):
        model(X)
        losses.append(teacher.loss())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 2


def test_the_teacher_is_in_evaluation_mode():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    teacher = Teacher(model.double(), Distillation())
    model.train()(X)
    teacher.loss()
    model.eval()
    reference = teacher.network(X)
    assert not teacher.network.training
    assert equal(teacher.network[1].running_mean.abs().sum(), 0)
    torch.testing.assert_close(reference, teacher.network(X), rtol=0, atol=0)


def test_weight_and_passes_add_up():
    model, teacher = taught()
    one, two = term(model, teacher, X), term(model, teacher, 2 * X)
    model(X)
    model(2 * X)
    assert teacher.pending == 2
    assert equal(teacher.loss(), one + two)
    assert teacher.pending == 0
    other = Teacher(model, Distillation("squarehead", weight=0.25), teacher.network)
    assert equal(term(model, other), one / 4)


def test_a_module_called_twice_has_two_features():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.shared(self.shared(x)))

    torch.manual_seed(0)
    model = Twice().double()
    teacher = Teacher(model, SQUAREHEAD)
    perturbed(model)
    first, first_taught = model.shared(X), teacher.network.shared(X)
    second, second_taught = model.shared(first), teacher.network.shared(first_taught)
    features = (
        {("x", 0): first, ("x", 1): second},
        {("x", 0): first_taught, ("x", 1): second_taught},
    )
    logits = model.head(second), teacher.network.head(second_taught)
    assert equal(term(model, teacher), squarehead_loss(*features) + logits_loss(*logits, 2.0))


def test_passes_without_training_do_not_count():
    model, teacher = taught()
    model.eval()(X)
    with torch.no_grad():
        model.train()(X)
    with pytest.raises(LearnerError, match="training mode"):
        teacher.loss()


def test_a_pass_that_failed_does_not_count():
    model, teacher = taught()
    with pytest.raises(RuntimeError):
        model(X[:, :2])
    model.eval()(X)
    assert teacher.pending == 0


def test_inputs_changed_in_place_reach_the_teacher_unchanged():
    class Normalizing(Residual):
        def forward(self, x):
            return super().forward(x.sub_(1))

    model = Normalizing()
    teacher = Teacher(model, SQUAREHEAD)
    x = X.clone()
    assert term(model, teacher, x) == 0
    assert equal((X - x).mean(), 1)


def test_the_teacher_follows_its_student_to_another_device():
    model, teacher = taught()
    model.to("meta")(X.to("meta"))
    assert teacher.loss().is_meta


def test_autocast_is_the_same_for_both():
    model = Residual().float()
    teacher = Teacher(model, SQUAREHEAD)
    x = X.float()
    with torch.autocast("cpu", torch.bfloat16):
        assert model(x).dtype == torch.bfloat16
    loss = teacher.loss()
    assert loss == 0
    assert loss.dtype == torch.float32
    perturbed(model)
    exact = term(model, teacher, x)
    with torch.autocast("cpu", torch.bfloat16):
        model(x)
        loss = teacher.loss()
    loss.backward()
    assert abs(loss.item() - exact) < 0.1 * exact
    assert all(p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


def test_the_model_stays_as_it_is():
    model = Residual()
    state = copy.deepcopy(model.state_dict())
    expected, modules = model(X), len(list(model.modules()))
    teacher = Teacher(model, SQUAREHEAD)
    model(X)
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)
    assert len(list(model.modules())) == modules
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    torch.testing.assert_close(model(X), expected, rtol=0, atol=0)
    teacher.close()
    for network in (model, teacher.network):
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    model(X)
    assert teacher.pending == 0


def test_copies_of_the_model_are_not_watched():
    model, teacher = taught()
    model(X)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for twin in (copy.deepcopy(model), copy.copy(model), torch.load(file, weights_only=False)):
        twin(X)
    assert teacher.pending == 1


def test_copies_of_the_model_carry_no_teacher():
    model = Residual(width=64)
    alone = len(pickle.dumps(model))
    Teacher(model, SQUAREHEAD)
    assert len(pickle.dumps(model)) < 1.5 * alone


def test_the_watched_model_can_be_traced_and_exported():
    model, teacher = taught()
    graph = trace(model, X).graph
    exported = [torch.export.export(model.train(mode), (X,)) for mode in (True, False)]
    assert teacher.pending == 0
    teacher.close()
    assert graph == trace(model, X).graph
    torch.testing.assert_close(exported[0].module()(X), model(X))


def test_a_compiled_model_is_watched():
    model, teacher = taught()
    expected = term(model, teacher)
    compiled = torch.compile(model, backend="eager")
    for _ in range(2):
        assert equal(term(compiled, teacher), expected)


def test_checkpointed_blocks_give_the_same_gradients():
    class Checkpointed(Residual):
        def block(self, block, x):
            return torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False)

    gradients = []
    for network in (Residual, Checkpointed):
        model = network()
        teacher = Teacher(model, SQUAREHEAD)
        perturbed(model)
        model(X)
        teacher.loss().backward()
        assert teacher.pending == 0
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*gradients)


def test_data_parallel_wrappers_are_watched():
    model, teacher = taught()
    expected = term(model, teacher)
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    try:
        wrapped = nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
        output = wrapped(X)
        loss = teacher.loss()
        assert equal(loss, expected)
        (output.sum() + loss).backward()
        assert all(p.grad is not None for p in model.parameters())
    finally:
        torch.distributed.destroy_process_group()


@dataclass
class Output:
    loss: Tensor
    hidden: Tensor
    logits: Tensor


def test_logits_are_found_by_name_or_else_come_first():
    loss, ids = torch.tensor(1.0), torch.zeros(2, 3, dtype=torch.long)
    hidden, logits = torch.zeros(2, 4), torch.zeros(2, 5)
    assert find_logits(logits) is logits
    assert find_logits(Output(loss, hidden, logits)) is logits
    assert find_logits(OrderedDict(loss=loss, hidden=hidden, logits=logits)) is logits
    assert find_logits((loss, ids, [hidden, logits])) is hidden
    assert find_logits({"out": {"a": logits}, "aux": hidden}) is logits
    assert find_logits((loss, ids, None, "text")) is None


class Detector(Residual):
    """Returns losses in training."""

    def forward(self, x):
        output = super().forward(x)
        return {"loss": output.square().mean()} if self.training else output


def test_outputs_that_differ_in_training_leave_the_features():
    model = Detector()
    with pytest.raises(LearnerError, match="no logits of one shape"):
        term(model, Teacher(model, Distillation()))
    model = Detector()
    teacher = Teacher(model, SQUAREHEAD)
    perturbed(model)
    assert term(model, teacher) > DIFFERENT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "hints"}, "'hints' is not known"),
        ({"weight": -1.0}, "weight of -1.0"),
        ({"weight": float("nan")}, "weight of nan"),
        ({"temperature": 0.0}, "temperature of 0.0"),
    ],
)
def test_values_out_of_range_are_refused(change, message):
    with pytest.raises(LearnerError, match=message):
        Distillation(**change)


def test_unknown_modules_are_named():
    with pytest.raises(LearnerError, match=r"no module `blocks\.9`"):
        Teacher(Residual(), Distillation("squarehead", features=("blocks.0", "blocks.9")))
    with pytest.raises(LearnerError, match="no features to compare"):
        Teacher(nn.Linear(2, 3), SQUAREHEAD)


def test_features_that_nothing_is_learned_from_are_refused():
    model = Residual()
    model.unused = nn.Linear(2, 2)
    Teacher(model, Distillation("squarehead", features=("unused",)))
    with pytest.raises(LearnerError, match="features have no gradient: unused"):
        model(X)


def test_a_single_class_is_refused():
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1)).double()
    teacher = Teacher(model, Distillation())
    with pytest.raises(LearnerError, match="single class"):
        term(model, teacher)
    teacher.close()
    assert term(model, Teacher(model, SQUAREHEAD)) == 0


def test_teachers_of_another_shape_are_refused():
    model = Residual()
    Teacher(model, SQUAREHEAD, Residual(width=12))
    with pytest.raises(LearnerError, match="shape"):
        model(X)
