"""Losses: numbers to train with, which every position of every operand counts in."""

from __future__ import annotations

from autoprune.ops.pinning import pinning
from autoprune.ops.rule import register

_NAMES = (
    "mse_loss l1_loss smooth_l1_loss huber_loss binary_cross_entropy "
    "binary_cross_entropy_with_logits cross_entropy_loss nll_loss_nd "
    "kl_div cosine_embedding_loss margin_ranking_loss "
    "triplet_margin_loss hinge_embedding_loss soft_margin_loss multi_margin_loss "
    "multilabel_margin_loss poisson_nll_loss"
)
register(" ".join(f"aten.{name}" for name in _NAMES.split()), pinning("a loss is taken over it"))
