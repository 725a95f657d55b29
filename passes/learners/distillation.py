"""Distillation: the network as it was before pruning teaches the one that is being pruned.

Units are only zeroed during training, so that both have the same shape, and every feature of the
one can be compared with the same feature of the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from autoprune.errors import LearnerError
from autoprune.frameworks.torch.trace import copy_of
from autoprune.passes.learners.features import (
    Features,
    Recorder,
    Watch,
    find_stages,
    float_tensors,
    wide,
)

Kind = Literal["logits", "squarehead"]


@dataclass(frozen=True)
class Distillation:
    """What a student learns from its teacher.

    Attributes:
        kind: `logits` compares outputs. `squarehead` compares features (Kurtic et al. 2023, "Sparse
            Fine-tuning for Inference Acceleration of Large Language Models"), and outputs where
            both give logits of one shape.
        weight: factor of the whole term.
        temperature: by which logits are divided before the softmax.
        features: names of the modules whose outputs are compared; by default the blocks of every
            list of blocks, see `autoprune.passes.learners.features.find_stages`.
        axis: of the logits, over the classes. By default the last one of logits with up to three
            axes (batch, token, class), and axis 1 of others (batch, class, height, width).

    Raises:
        LearnerError: if a value is out of range.
    """

    kind: Kind = "logits"
    weight: float = 1.0
    temperature: float = 2.0
    features: tuple[str, ...] = ()
    axis: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise LearnerError(
                f"distillation of kind {self.kind!r} is not known",
                hint=f"use one of {', '.join(get_args(Kind))}",
            )
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise LearnerError(f"a distillation weight of {self.weight} is not 0 or more")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise LearnerError(f"a temperature of {self.temperature} is not positive")


class Teacher(Watch):
    """A frozen network, run on whatever its student is trained on.

    It sees the student's training passes through hooks (which passes: `Watch`) and runs on a copy
    of the same inputs, in evaluation mode, without gradients and under the same autocast.

        loss = criterion(student(x), y) + teacher.loss()

    Args:
        student: the model being trained. The teacher is no part of it or of its state_dict.
        distillation: what to compare.
        network: the teacher, which is put into evaluation mode; by default a copy of the student
            as it is now.

    Raises:
        LearnerError: if there are no features to compare, or no modules of the names given.
    """

    def __init__(
        self, student: nn.Module, distillation: Distillation, network: nn.Module | None = None
    ) -> None:
        names = _feature_names(student, distillation)
        if network is None:
            network = copy_of(student).requires_grad_(False)
        self.network = network.eval()
        super().__init__(student, names)
        self._distillation = distillation
        self._lesson: tuple[Any, Features] = (None, {})
        self._taught = Recorder(self.network, names)

    def close(self) -> None:
        super().close()
        self._taught.close()

    def prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._follow_device()
        with torch.no_grad():
            # Copies, because a forward may change its inputs in place.
            args, kwargs = pytree.tree_map_only(Tensor, torch.clone, (args, kwargs))
            self._taught.start()
            output = self.network(*args, **kwargs)
            self._lesson = output, self._taught.stop()

    def _follow_device(self) -> None:
        """The student may have been moved after the teacher was copied from it."""
        ours, theirs = _device(self.network), _device(self._model)
        if ours is not None and theirs is not None and ours != theirs:
            self.network.to(theirs)

    def term(self, output: Any, features: Features) -> Tensor:
        options = self._distillation
        (taught_output, taught), self._lesson = self._lesson, (None, {})
        pair = _logits(output, taught_output)
        terms = []
        if options.kind == "squarehead":
            terms.append(squarehead_loss(features, taught))
        else:
            _check_logits(pair, options.axis)
        if pair is not None:
            terms.append(logits_loss(*pair, options.temperature, options.axis))
        return options.weight * torch.stack(terms).sum()


def _device(module: nn.Module) -> torch.device | None:
    return next((parameter.device for parameter in module.parameters()), None)


def find_logits(output: Any) -> Tensor | None:
    """The logits in a model's output: what is called so, otherwise the first tensor with axes."""
    candidates = [(name, tensor) for name, tensor in float_tensors(output) if tensor.ndim]
    named = [tensor for name, tensor in candidates if name == "logits"]
    return next(iter([*named, *(tensor for _, tensor in candidates)]), None)


def logits_loss(
    student: Tensor, teacher: Tensor, temperature: float, axis: int | None = None
) -> Tensor:
    """KL divergence of the student's classes from the teacher's, softened by a temperature.

    T² KL(softmax(teacher / T) || softmax(student / T)), averaged over all axes but that of the
    classes. The factor keeps gradients of one size at any temperature (Hinton et al. 2015).

    Args:
        student: logits.
        teacher: logits of the same shape.
        temperature: T.
        axis: over the classes; for the default see `Distillation`.

    Raises:
        LearnerError: if there is no such axis.
    """
    axis = _class_axis(student, axis)
    log_student = torch.log_softmax(wide(student) / temperature, axis)
    log_teacher = torch.log_softmax(wide(teacher) / temperature, axis)
    share = log_teacher.exp()
    # A class of no weight adds nothing, even where both logits are -inf because it is masked.
    ratio = (log_teacher - log_student).masked_fill(share == 0, 0)
    return temperature**2 * (share * ratio).sum(axis).mean()


def _class_axis(logits: Tensor, axis: int | None) -> int:
    if axis is None:
        return -1 if logits.ndim <= 3 else 1
    if not -logits.ndim <= axis < logits.ndim:
        raise LearnerError(f"logits of shape {tuple(logits.shape)} have no axis {axis}")
    return axis


def _logits(output: Any, taught_output: Any) -> tuple[Tensor, Tensor] | None:
    """The logits of student and teacher; None if one has none, or of another shape.

    Detectors, for one, return something else in training than in evaluation.
    """
    mine, taught = find_logits(output), find_logits(taught_output)
    if mine is None or taught is None or mine.shape != taught.shape:
        return None
    return mine, taught


def _check_logits(pair: tuple[Tensor, Tensor] | None, axis: int | None) -> None:
    """Refuse outputs from which a student of logits alone would learn nothing."""
    hint = 'compare features: Distillation(kind="squarehead")'
    if pair is None:
        raise LearnerError(
            "the outputs of the model in training and of its teacher in evaluation hold no logits "
            "of one shape",
            hint=hint,
        )
    shape = tuple(pair[0].shape)
    if shape[_class_axis(pair[0], axis)] == 1:
        raise LearnerError(
            f"logits of shape {shape} have a single class, so that any two of them are the same "
            "distribution",
            hint=f"state the axis of the classes (Distillation(axis=...)), or {hint}",
        )


def squarehead_loss(student: Features, teacher: Features) -> Tensor:
    """The sum over features of MSE(teacher, student) / MSE(teacher, 0).

    Features that only one of the two computed, as with layers dropped in training, do not count.

    Raises:
        LearnerError: if shapes differ, or if no feature was computed by both.
    """
    terms = []
    for key in (key for key in student if key in teacher):
        mine, taught = wide(student[key]), wide(teacher[key])
        if mine.shape != taught.shape:
            raise LearnerError(
                f"a feature of shape {tuple(mine.shape)} cannot be compared with the teacher's of "
                f"shape {tuple(taught.shape)}",
                where=key[0],
            )
        # A feature that is all zeros has no scale to be measured on.
        scale = taught.square().mean().clamp_min(torch.finfo(torch.float32).eps)
        terms.append((taught - mine).square().mean() / scale)
    if not terms:
        raise LearnerError(
            "student and teacher computed no feature in common",
            hint="name modules that both call: Distillation(features=...)",
        )
    return torch.stack(terms).sum()


def _feature_names(student: nn.Module, distillation: Distillation) -> tuple[str, ...]:
    if distillation.kind == "logits":
        return ()
    names = distillation.features or tuple(n for stage in find_stages(student) for n in stage)
    if not names:
        raise LearnerError(
            "no features to compare: the model has no list of blocks",
            where=type(student).__name__,
            hint="name modules: Distillation(features=...)",
        )
    return names
