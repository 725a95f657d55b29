"""`autoprune demo`: train, prune, fine-tune and deploy a small network on real data."""

from autoprune.cli.demo.digits import (
    SIDE,
    DigitNet,
    Digits,
    accuracy,
    load_digits,
    onnx_accuracy,
    train,
)
from autoprune.cli.demo.show import EPOCHS, demo

__all__ = [
    "EPOCHS",
    "SIDE",
    "DigitNet",
    "Digits",
    "accuracy",
    "demo",
    "load_digits",
    "onnx_accuracy",
    "train",
]
