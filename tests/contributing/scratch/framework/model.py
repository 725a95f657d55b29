"""Perceptrons in numpy: what a framework has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Perceptron:
    """Linear layers with a sigmoid after each but the last.

    Attributes:
        weights: `0.weight` [outputs, inputs], `0.bias` [outputs], `1.weight`, ...
    """

    weights: dict[str, np.ndarray]

    @property
    def depth(self) -> int:
        return len(self.weights) // 2

    def values(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """All that is computed, by name; the last is the output."""
        found = {"x": x}
        for i in range(self.depth):
            x = found[f"{i}"] = x @ self.weights[f"{i}.weight"].T + self.weights[f"{i}.bias"]
            if i < self.depth - 1:
                x = found[f"{i}.active"] = 1 / (1 + np.exp(-x))
        return found

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return list(self.values(x).values())[-1]
