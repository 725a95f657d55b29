"""Sparse training: the network becomes sparse while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from autoprune.errors import LearnerError
from autoprune.frameworks.torch.carried import carried_plan
from autoprune.frameworks.torch.trace import as_inputs, copy_of
from autoprune.frameworks.torch.wrappers import network_of
from autoprune.passes.learners.masks.gmp import GMP
from autoprune.passes.learners.masks.learnable import Learnable
from autoprune.passes.learners.masks.method import MaskMethod, magnitudes
from autoprune.passes.learners.masks.optimizer import MaskedOptimizer
from autoprune.passes.learners.masks.srigl import SRigL
from autoprune.passes.learners.masks.straight_through import SRSTE
from autoprune.passes.learners.masks.training import Training
from autoprune.passes.learners.schedule import Timing
from autoprune.passes.learners.sharding import is_sharded
from autoprune.passes.learners.wrapper import check_base
from autoprune.passes.pruning.given import given
from autoprune.passes.pruning.result import Result
from autoprune.passes.sparsify.distribution import Distribution
from autoprune.passes.sparsify.one_shot import check_weights, find_sparsity, report_on
from autoprune.passes.sparsify.result import SparseResult
from autoprune.passes.sparsify.specs import FormatSpec
from autoprune.passes.sparsify.weights import find_weights


class Sparsifier:
    """Makes optimizers with which a network becomes sparse while it trains.

    ::

        sparsifier = ap.Sparsifier(model, example_inputs, format="block 32x1", sparsity=0.8)
        optimizer = torch.optim.AdamW(model.parameters())
        optimizer = sparsifier.gmp(optimizer, steps=len(loader) * epochs)
        ...                               # train as ever
        result = sparsifier.finish()      # what `ap.sparsify` returns

    Each makes one optimizer. Every process that trains with DistributedDataParallel makes the same.

    Args:
        model: the network that will be trained; or the result of `prune` or of a `Pruner`, whose
            `model` then is.
        example_inputs: as for `prune`, to save the result as ONNX; those of a result are known.
        format: as for `sparsify`.
        sparsity: as for `sparsify`.
        ignore: as for `sparsify`; frozen weights stay dense, too.
        distribution: as for `sparsify`.
        dynamic_shapes: as for `sparsify`.

    Raises:
        FormatError: if a format is unknown or fits no layer.
        BudgetError: if the sparsity is out of range, or no format leaves it open.
        AutopruneError: if a name matches nothing.
    """

    def __init__(
        self,
        model: nn.Module | Result[nn.Module],
        example_inputs: Any = None,
        *,
        format: FormatSpec = "auto",
        sparsity: float | None = None,
        ignore: str | Sequence[str] = (),
        distribution: str | Distribution = "uniform",
        dynamic_shapes: Any = None,
    ) -> None:
        found = given(model, example_inputs, dynamic_shapes)
        example_inputs, dynamic_shapes = found.inputs, found.dynamic_shapes
        self.model = model = network_of(found.model)
        self._plan = carried_plan(model)
        self.distribution = distribution
        self.optimizer: MaskedOptimizer | None = None
        self._inputs = None if example_inputs is None else as_inputs(example_inputs)
        self._dynamic_shapes = dynamic_shapes
        self._found = find_weights(model, format, ignore, trained=True)
        self.sparsity = find_sparsity(self._found.weights, sparsity)

    def gmp(
        self,
        base: torch.optim.Optimizer,
        method: GMP = GMP(),
        *,
        steps: int,
        timing: Timing | None = None,
    ) -> MaskedOptimizer:
        """Gradual magnitude pruning, see `GMP`; arguments as for `train`."""
        return self.train(base, method, steps=steps, timing=timing)

    def sr_ste(
        self,
        base: torch.optim.Optimizer,
        method: SRSTE = SRSTE(),
        *,
        steps: int,
        timing: Timing | None = None,
    ) -> MaskedOptimizer:
        """Sparse-refined straight-through estimator, see `SRSTE`; arguments as for `train`."""
        return self.train(base, method, steps=steps, timing=timing)

    def srigl(
        self,
        base: torch.optim.Optimizer,
        method: SRigL = SRigL(),
        *,
        steps: int,
        timing: Timing | None = None,
    ) -> MaskedOptimizer:
        """Structured RigL, see `SRigL`; arguments as for `train`."""
        return self.train(base, method, steps=steps, timing=timing)

    def learnable(
        self,
        base: torch.optim.Optimizer,
        method: Learnable = Learnable(),
        *,
        steps: int,
        timing: Timing | None = None,
    ) -> MaskedOptimizer:
        """Masks trained by gradients, see `Learnable`; arguments as for `train`."""
        return self.train(base, method, steps=steps, timing=timing)

    def train(
        self,
        base: torch.optim.Optimizer,
        method: MaskMethod,
        *,
        steps: int,
        timing: Timing | None = None,
    ) -> MaskedOptimizer:
        """An optimizer to be used in place of `base`, with which the network becomes sparse.

        Args:
            base: any torch optimizer of the model's parameters.
            method: how masks are found, with its settings: `GMP`, `SRSTE`, `SRigL` or `Learnable`.
            steps: optimizer steps of the whole training run.
            timing: when masks are looked for; None for the method's own. After `stop` they are
                fixed, and what is left trains on.

        Raises:
            LearnerError: if the optimizer lacks parameters, the steps are too few, the method is
                not for the format, parameters are sharded, or this Sparsifier has made one already.
            GraphError: if a weight is not finite.
        """
        if self.optimizer is not None:
            raise LearnerError(
                "this Sparsifier has an optimizer already",
                hint="make a new Sparsifier of the model",
            )
        schedule = (method.timing if timing is None else timing).schedule(steps)
        check_base(base, self.model)
        method.check(self._found.weights)
        sharded = next((w.name for w in self._found.weights if is_sharded(w.parameter)), None)
        if sharded is not None:
            raise LearnerError(
                "weights are sharded over processes",
                where=sharded,
                hint="train with DistributedDataParallel",
            )
        check_weights(self._found)
        training = Training(self._found.weights, self.sparsity, self.distribution, schedule)
        with torch.no_grad():
            # Finds out whether the distribution is known before a step is done.
            training.set_levels(0.0, magnitudes(training))
        self.optimizer = MaskedOptimizer(base, training, method)
        return self.optimizer

    def finish(self) -> SparseResult:
        """A copy of the trained network with its masks, as `sparsify` returns it.

        Raises:
            LearnerError: if masks are not final yet, removed weights are not zero, or the model
                has other parameters than those that were trained.
        """
        if self.optimizer is None:
            raise LearnerError(
                "there is nothing to finish: no optimizer was made",
                hint="train with sparsifier.gmp(optimizer, steps=...) first",
            )
        training = self.optimizer.training
        if not training.done:
            raise LearnerError(
                f"training has done {training.step} of {training.schedule.steps} steps, and masks "
                f"change until step {training.schedule.stop}",
                hint="train on; `steps` counts calls of optimizer.step()",
            )
        masks = dict(zip((w.name for w in training.weights), training.masks, strict=True))
        present = {id(p) for p in self.model.parameters()}
        for weight in training.weights:
            if id(weight.parameter) not in present:
                raise LearnerError(
                    "parameters of the model were replaced while it trained",
                    where=weight.name,
                    hint="change values in place: load_state_dict without assign, no new layers",
                )
            removed = weight.parameter.detach()[~masks[weight.name]]
            if bool(removed.any()):
                raise LearnerError(
                    f"{int(removed.count_nonzero())} removed weights are not zero any more",
                    where=weight.name,
                    hint="something changed the weights after the last step, an average of earlier "
                    "weights perhaps; call finish() right after training",
                )
        report = report_on(self.model, self._found, masks, {})
        kept = {name: mask.clone() for name, mask in masks.items()}
        return SparseResult(
            copy_of(self.model), kept, report, self._inputs, self._dynamic_shapes, self._plan
        )
