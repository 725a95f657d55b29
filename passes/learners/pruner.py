"""Train once: learners find the small network while the large one trains."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol, Required, Unpack

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from autoprune.errors import BudgetWarning, LearnerError
from autoprune.frameworks.torch.computed import dead_weights
from autoprune.frameworks.torch.memory import collect_like
from autoprune.frameworks.torch.network import TorchNetwork, trace_network
from autoprune.frameworks.torch.trace import copy_of
from autoprune.frameworks.torch.wrappers import network_of
from autoprune.ir.group import Group
from autoprune.ir.reason import Reason
from autoprune.passes.learners.distillation import Distillation, Teacher
from autoprune.passes.learners.optimizer import SparseOptimizer
from autoprune.passes.learners.schedule import Timing
from autoprune.passes.learners.session import Session
from autoprune.passes.learners.sharding import first_of, gathered, local_part
from autoprune.passes.learners.units.history import Monitor, Record, plot
from autoprune.passes.learners.units.selection import Selection
from autoprune.passes.learners.units.slices import find_units
from autoprune.passes.learners.units.unit_training import Method, UnitTraining
from autoprune.passes.pruning.analysed import analyse_network
from autoprune.passes.pruning.prune import cut_trained, prune_analysed
from autoprune.passes.pruning.reporting import shortfall
from autoprune.passes.pruning.request import (
    DEFAULTS,
    CostBudget,
    Options,
    Request,
    as_scope,
    check_options,
    one_budget,
)
from autoprune.passes.pruning.result import Result
from autoprune.passes.pruning.scope import Movable
from autoprune.report.progress import progress


class Target(CostBudget, total=False):
    """What a learner is to reach, and when; one budget and `steps` are needed.

    Attributes:
        steps: optimizer steps of the whole training run.
        timing: when pruning begins and ends.
    """

    steps: Required[int]
    timing: Timing


class Learn(Protocol):
    """Begins a training by a method that was named; without settings, it has its usual ones."""

    def __call__(
        self,
        base: torch.optim.Optimizer,
        method: Method | None = None,
        **target: Unpack[Target],
    ) -> SparseOptimizer[UnitTraining]:
        """Arguments as for `Pruner.learn`."""


class Pruner(Session[UnitTraining]):
    """Finds what can go of a network, and makes optimizers that find what is not needed.

    ::

        pruner = ap.Pruner(model, example_inputs)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer = pruner.hesso(optimizer, flops=0.3, steps=len(loader) * epochs)
        ...                               # train as ever
        result = pruner.finish()          # what `ap.prune` returns

    The model is traced here, so make the Pruner before the model is wrapped, sharded or compiled,
    and the optimizer afterwards. Each makes one learner.

    Args:
        model: the network that will be trained, in training or evaluation mode.
        example_inputs: as for `prune`.
        only: names or patterns of modules, parameters or groups whose units may go; see `prune`.
        ignore: names or patterns of modules, parameters or groups to leave as they are.
        outputs: those that matter, as for `prune`.
        multiple_of: as for `prune`.
        options: everything else; `per_outer` does not apply.
        distill: a kind of distillation, or a `Distillation` with settings: the model as it is now
            becomes the teacher, and the training loop adds `distillation_loss()` to its loss.
        callback: called with a `Record` now and then, for progress.
        log_dir: folder for TensorBoard, which then has to be installed.
        process_group: the processes that train this model together, if not all; as for
            DistributedDataParallel. All have to make the same Pruner and learner.

    Raises:
        TraceError: if the model cannot be read, does not run on the inputs, or cannot be exported.
    """

    _family = Method
    _made = "a learner"
    _example = "pruner.hesso(optimizer, flops=0.5, steps=...)"

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Any,
        *,
        only: str | Sequence[str] = (),
        ignore: str | Sequence[str] = (),
        outputs: int | str | Sequence[int | str] = (),
        multiple_of: int | None = None,
        options: Options = DEFAULTS,
        distill: Literal["logits", "squarehead"] | Distillation | None = None,
        callback: Callable[[Record], object] | None = None,
        log_dir: str | Path | None = None,
        process_group: ProcessGroup | None = None,
    ) -> None:
        check_options(options)
        self.model = model = network_of(model)
        self.example_inputs = example_inputs
        self.scope = as_scope(only, ignore, outputs)
        self.multiple_of = multiple_of
        self.options = replace(options, per_outer=False, allocation=options.allocation or "global")
        self.monitor = Monitor(callback, log_dir)
        self.process_group = process_group
        self._note = ""
        self._teacher: Teacher | None = None
        # Training may shard the model and so take its whole parameters away.
        self._whole = copy_of(model)
        self._device = next((p.device for p in model.parameters()), torch.device("cpu"))
        with progress(self.options.progress):
            self._network = self._trace(self._whole)
            self.analysis = analyse_network(self._network, self.options)
        if distill is not None:
            settings = Distillation(distill) if isinstance(distill, str) else distill
            self._teacher = Teacher(model, settings)

    def __getattr__(self, name: str) -> Learn:
        """Such as `pruner.hesso(...)`, which is short for `pruner.learn(..., HESSO(), ...)`."""
        return self._by_name(name, self.learn)

    def learn(
        self, base: torch.optim.Optimizer, method: Method, **target: Unpack[Target]
    ) -> SparseOptimizer[UnitTraining]:
        """An optimizer to be used in place of `base`, with which the network becomes sparse.

        Args:
            base: any torch optimizer of the model's parameters.
            method: how units are found and brought to zero, with its settings: `HSPG`, `DHSPG`,
                `HESSO`, `HESSOCRIC`, `GroupLasso`, `WGSEF`, `Polarization` or `TurboVBI`.
            **target: see `Target`; one of `flops`, `params`, `memory`, `channels` and `groups`, and
                `steps`.

        Raises:
            LearnerError: if the optimizer lacks parameters, the steps are too few, or this Pruner
                has a learner already.
            BudgetError: if the target is out of range or cannot be met.
            TypeError: if there is no such target.
        """
        self._check(base)
        budget = one_budget(
            {name: share for name, share in target.items() if name not in ("steps", "timing")},
            CostBudget.__annotations__,
        )
        schedule = target.get("timing", method.timing).schedule(target.get("steps"))
        request = Request(
            budget, scope=self.scope, multiple_of=self.multiple_of, options=self.options
        )
        with progress(self.options.progress):
            attempt = prune_analysed(self._network, self.analysis, request, self._why_frozen)
        movable = self._agreed(attempt.movable)
        self._note = shortfall(request, attempt.result.report)
        if self._note:
            warnings.warn(self._note, BudgetWarning, stacklevel=3)  # through `hesso` and the like
        computed = [n for n in self.analysis.effective if n not in self.analysis.graph.parameter_of]
        dead = dead_weights(self._network.traced.module, computed)
        training = UnitTraining(
            method,
            base,
            self.model,
            schedule,
            self.process_group,
            units=find_units(self.analysis, movable.groups, self.model, dead),
            selection=Selection(self.analysis, movable, request),
            monitor=self.monitor,
        )
        if self._teacher is not None:
            base.register_step_pre_hook(self._check_distilled)
        self._forget_weights()
        return self._begin(training)

    def finish(self) -> Result[nn.Module]:
        """The small network, as `prune` returns it; it computes what the trained network does.

        The model itself stays as it is, and the small network is on the device that the model was
        on when the Pruner was made. Under sharded data parallelism all processes have to call this
        together.

        Raises:
            LearnerError: if the target is not met yet, weights of removed units are not zero, or
                the model has other parameters than those that were trained.
            NotEqualError: if the small network does not compute what the trained one does.
        """
        training = self._finished()
        self.monitor.close()
        if self._teacher is not None:
            self._teacher.close()
        names = self.analysis.names
        with progress(self.options.progress):
            result = cut_trained(
                self._trace(gathered(self.model, self._whole, self._device, self.process_group)),
                self.analysis.graph.digest,
                training.selection.kept(training.zero),
                {names[uid]: why for uid, why in training.selection.movable.reasons.items()},
                self.options,
            )
        if self._note:
            result.note(self._note)
        return result

    def distillation_loss(self) -> Tensor:
        """How far the forward passes since the last call are from the teacher's, weighted.

        Raises:
            LearnerError: if the Pruner was made without `distill`, or there was no forward pass in
                training mode.
        """
        if self._teacher is None:
            raise LearnerError(
                "the Pruner was made without a teacher",
                hint='ap.Pruner(model, inputs, distill="logits")',
            )
        return self._teacher.loss()

    @property
    def history(self) -> list[Record]:
        """What happened so far."""
        return self.monitor.records

    def log(self, **metrics: float) -> None:
        """Add measurements of your own, such as the loss, to the history at the present step."""
        if self.optimizer is None:
            raise LearnerError("no learner was made yet", hint="call pruner.hesso(...) first")
        self.monitor.add(self.optimizer.training.record(metrics))

    def plot(self, path: str | Path) -> None:
        """Draw the history into an image file."""
        plot(self.history, path)

    def _check_distilled(self, *_: object) -> None:
        """Without its term in the loss, distillation would do nothing."""
        if self._teacher is not None and self._teacher.pending:
            raise LearnerError(
                "distillation is on, but its loss was not used in this step",
                hint="loss = criterion(model(x), y) + pruner.distillation_loss()",
            )

    def _why_frozen(self, group: Group) -> Reason | None:
        """Units with frozen weights stay: freezing says that these may not change."""
        parameters = dict(self.model.named_parameters(remove_duplicate=False))
        for occurrence in group.occurrences:
            for name in self.analysis.graph.parameter_of[occurrence.parameter].names:
                if name in parameters and not parameters[name].requires_grad:
                    remedy = "let what is frozen train (requires_grad_())"
                    return Reason(f"left alone: {name} is frozen", remedy=remedy)
        return None

    def _agreed(self, movable: Movable) -> Movable:
        """What may shrink, what has to shrink alike, and why the rest may not.

        Processes that train together may have begun with other weights, and so have found other
        groups; those of the first process count.
        """
        names = self.analysis.names
        groups, ties, reasons = first_of(
            (
                [names[group.leaf.uid] for group in movable.groups],
                [[names[uid] for uid in tie] for tie in movable.ties],
                {
                    names[uid]: (reason.text, reason.node and reason.node.name, reason.remedy)
                    for uid, reason in movable.reasons.items()
                },
            ),
            self.process_group,
            local_part(next(self.model.parameters())).device,
        )
        uids = {name: uid for uid, name in names.items()}
        nodes = {node.name: node for node in self.analysis.graph.nodes}
        return Movable(
            tuple(self.analysis.groups[uids[name]] for name in groups),
            {
                uids[name]: Reason(text, nodes.get(node or ""), remedy)
                for name, (text, node, remedy) in reasons.items()
            },
            tuple(frozenset(uids[name] for name in tie) for tie in ties),
        )

    def _forget_weights(self) -> None:
        """Keep the structure of the model alone; its weights are those that are trained."""
        del self._network
        for module in self._whole.modules():
            for name, parameter in module.named_parameters(recurse=False):
                empty = torch.empty_like(parameter, device="meta")
                module.register_parameter(name, nn.Parameter(empty, parameter.requires_grad))
        collect_like(self.model)

    def _trace(self, model: nn.Module) -> TorchNetwork:
        return trace_network(
            model, self.example_inputs, self.options.dynamic_shapes, self.scope.outputs
        )
