"""Gram matrices of what weights are multiplied by, gathered on calibration data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from autoprune.analysis.products import Product, products_of
from autoprune.analysis.typing import infer
from autoprune.errors import AutopruneError
from autoprune.frameworks.network import Network
from autoprune.passes.sparsify.layout import Array


class _Runs:
    """A network and the batches that its graph runs on."""

    def __init__(self, network: Network, batches: Sequence[Any]) -> None:
        self.network = network
        self.batches = batches
        found = products_of(infer(network.graph)).by_parameter
        self.products = {
            name: tuple(p for p in found.get(owned.value.name, ()) if not p.contraction.index)
            for owned in network.graph.parameters
            for name in owned.names
        }

    def rows(self, products: Sequence[Product]) -> Iterator[Array]:
        """What products multiply by their weight, batch after batch."""
        for batch in self.batches:
            try:
                values = self.network.inner(batch, {p.x.name for p in products})
            except AutopruneError as error:
                raise does_not_run(error) from error
            for product in products:
                yield product.columns(values[product.x.name])[0].astype(np.float64)


class Calibration:
    """A network that is run on calibration data while its weights change one by one.

    Args:
        runs: the network as it is at first and batches, each as example inputs. A graph that is
            specialized to the shapes of its inputs comes with the batches of these shapes.
    """

    def __init__(self, runs: Sequence[tuple[Network, Sequence[Any]]]) -> None:
        self._runs = [_Runs(network, batches) for network, batches in runs]
        self._last: tuple[object, Array] | None = None

    def gram(self, name: str, *, transposed: bool = False) -> Array | None:
        """`X^T X` of all rows X [samples, taps * inputs] that a weight is multiplied by.

        Args:
            name: of a parameter.
            transposed: whether its first dimension is that of the inputs.

        Returns:
            Of dtype float64; None if the weight is not called, in groups, or on other rows than
            those of its parameter as a matrix.

        Raises:
            AutopruneError: if the network does not run on one of the batches.
        """
        found = [(run, run.products.get(name, ())) for run in self._runs]
        products = [product for _, several in found for product in several]
        fit = (p.exact and p.shape[0] == 1 and p.is_matrix(transposed=transposed) for p in products)
        if not products or not all(fit):
            return None
        # Nothing that a weight of one product changes comes before what that product reads.
        alone = all(len(several) <= 1 for _, several in found)
        key = tuple(_read_by(several[0]) if several else None for _, several in found)
        if self._last is None or not alone or self._last[0] != key:
            size = products[0].shape[2]
            gram = np.zeros((size, size))
            for run, several in found:
                for rows in run.rows(several) if several else ():
                    gram += rows.T @ rows
            self._last = key if alone else None, gram
        return self._last[1]

    def change(self, name: str, parameter: Array) -> None:
        """Go on with other values of a parameter."""
        for run in self._runs:
            if run.products.get(name):
                value = run.products[name][0].parameter.value.name
                run.network = run.network.with_parameters({value: parameter})


def does_not_run(error: AutopruneError) -> AutopruneError:
    """What to raise of calibration data that a network does not take."""
    return AutopruneError(
        f"the network does not run on the calibration data: {error.what}",
        hint="each item is what the network is called with, without labels: "
        "calibration=[x for x, label in loader]",
    )


def _read_by(product: Product) -> object:
    """What the rows of a product depend on."""
    sizes = [product.sizes[letter] for letter in (*product.taps, *product.inputs)]
    return product.x.name, product.dims_of(product.x), product.windows, tuple(sizes)
