"""Processes that train together find the same masks."""

import pytest
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

import autoprune as ap
from tests.learners.processes import two_processes
from tests.sparsity.test_sparsifier import METHODS, STEPS, TIMING, adamw, loss_of, small


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    with two_processes(tmp_path_factory.mktemp("store")) as both:
        yield both


def trained(name):
    """Weights and masks of a process, each of which sees data of its own."""
    method, format = METHODS[name]
    # Weights are those of the first process.
    model = small(seed=distributed.get_rank())
    sparsifier = ap.Sparsifier(model, format=format)
    wrapped = DistributedDataParallel(model)
    optimizer = sparsifier.train(adamw(model.parameters()), method, steps=STEPS, timing=TIMING)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss_of(wrapped, 2 * step + distributed.get_rank()).backward()
        optimizer.step()
    result = sparsifier.finish()
    weights = {name: p.detach() for name, p in result.model.named_parameters()}
    return weights, dict(result.masks)


@pytest.mark.parametrize("name", METHODS)
def test_masks_are_the_same(pair, name):
    (first, masks), (second, others) = pair.run(trained, name)
    assert all(torch.equal(masks[name], others[name]) for name in masks)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(not mask.all() for mask in masks.values())


def broken():
    """What a process says when the gradient of the second is not finite."""
    model = small()
    wrapped = DistributedDataParallel(model)
    optimizer = ap.Sparsifier(model, format="csr").gmp(adamw(model.parameters()), steps=STEPS)
    loss_of(wrapped, 0).backward()
    if distributed.get_rank() == 1:
        model[0].weight.grad[0, 0] = torch.inf
    try:
        optimizer.step()
    except ap.LearnerError as error:
        return str(error)
    return ""


def test_all_fail_alike(pair):
    assert all("gradients are not finite" in said for said in pair.run(broken))
