"""`autoprune demo`: train, prune, fine-tune and deploy a small network on real data."""

from autoprune.demo.digits import (
    SIDE,
    DigitNet,
    Digits,
    accuracy,
    load_digits,
    onnx_accuracy,
    train,
)
from autoprune.demo.show import EPOCHS, demo

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
