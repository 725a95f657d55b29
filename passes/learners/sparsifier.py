"""Sparse training: the network becomes sparse while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import nn

from autoprune.errors import LearnerError
from autoprune.frameworks.torch.carried import carried_plan
from autoprune.frameworks.torch.files import TorchFiles
from autoprune.frameworks.torch.trace import as_inputs, copy_of
from autoprune.frameworks.torch.wrappers import network_of
from autoprune.passes.learners.masks.mask_training import MaskMethod, MaskTraining, magnitudes
from autoprune.passes.learners.optimizer import SparseOptimizer
from autoprune.passes.learners.schedule import Timing
from autoprune.passes.learners.session import Session
from autoprune.passes.learners.sharding import is_sharded
from autoprune.passes.patterns import as_patterns
from autoprune.passes.pruning.given import given
from autoprune.passes.pruning.result import Result
from autoprune.passes.sparsify.distribution import Distribution
from autoprune.passes.sparsify.one_shot import open_sparsity, row_of
from autoprune.passes.sparsify.result import SparseResult
from autoprune.passes.sparsify.specs import FormatSpec
from autoprune.passes.sparsify.torch_model import check_weights, parameters_of
from autoprune.passes.sparsify.weights import find_weights
from autoprune.report.sparsity import SparsityReport


class Train(Protocol):
    """Begins a training by a method that was named; without settings, it has its usual ones."""

    def __call__(
        self,
        base: torch.optim.Optimizer,
        method: MaskMethod | None = None,
        *,
        steps: int,
        timing: Timing | None = None,
    ) -> SparseOptimizer[MaskTraining]:
        """Arguments as for `Sparsifier.train`."""


class Sparsifier(Session[MaskTraining]):
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

    _family = MaskMethod
    _made = "an optimizer"
    _example = "sparsifier.gmp(optimizer, steps=...)"

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
        self.model = model = network_of(found.model)
        self._plan = carried_plan(model)
        self.distribution = distribution
        inputs = None if found.inputs is None else as_inputs(found.inputs)
        self._files = TorchFiles(inputs, found.dynamic_shapes)
        patterns = as_patterns(ignore, "ignore")
        self._weights, self._reasons = find_weights(model, format, patterns, trained=True)
        self.sparsity = open_sparsity(self._weights, sparsity)

    def __getattr__(self, name: str) -> Train:
        """Such as `sparsifier.gmp(...)`, short for `sparsifier.train(..., GMP(), ...)`."""
        return self._by_name(name, self.train)

    def train(
        self,
        base: torch.optim.Optimizer,
        method: MaskMethod,
        *,
        steps: int,
        timing: Timing | None = None,
    ) -> SparseOptimizer[MaskTraining]:
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
        self._check(base)
        schedule = (method.timing if timing is None else timing).schedule(steps)
        method.check(self._weights)
        sharded = next((w.name for w in self._weights if is_sharded(w.parameter)), None)
        if sharded is not None:
            raise LearnerError(
                "weights are sharded over processes",
                where=sharded,
                hint="train with DistributedDataParallel",
            )
        check_weights(self._weights)
        training = MaskTraining(
            method=method,
            base=base,
            model=self.model,
            schedule=schedule,
            weights=self._weights,
            sparsity=self.sparsity,
            distribution=self.distribution,
        )
        with torch.no_grad():
            # Finds out whether the distribution is known before a step is done.
            training.set_levels(0.0, magnitudes(training))
        return self._begin(training)

    def finish(self) -> SparseResult[nn.Module]:
        """A copy of the trained network with its masks, as `sparsify` returns it.

        Raises:
            LearnerError: if masks are not final yet, removed weights are not zero, or the model
                has other parameters than those that were trained.
        """
        training = self._finished()
        pairs = list(zip(training.weights, training.masks, strict=True))
        rows = tuple(row_of(weight, int(mask.sum())) for weight, mask in pairs)
        report = SparsityReport(rows, parameters_of(self.model), self._reasons)
        masks = {weight.name: mask.clone() for weight, mask in pairs}
        return SparseResult(copy_of(self.model), masks, report, self._files, self._plan)
