"""`check_format` refutes formats that break a promise, one at a time."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from autoprune.errors import FormatError
from autoprune.passes.sparsify.formats.blocks import Block
from autoprune.passes.sparsify.formats.patterns import NM
from autoprune.passes.sparsify.layout import Encoded
from autoprune.testing import check_format


@dataclass(frozen=True)
class Own(Block):
    """A format of a user: right, until a test breaks it."""

    rows: int = 2
    cols: int = 3

    def __str__(self):
        return "own"


def with_arrays(encoded, **changed):
    return replace(encoded, arrays={**encoded.arrays, **changed})


class DropsLast(Own):
    def encode(self, weight, mask):
        encoded = super().encode(weight, mask)
        values = encoded.arrays["values"].copy()
        values[-1:] = 0
        return with_arrays(encoded, values=values)


class StoresWhatIsRemoved(Own):
    def encode(self, weight, mask):
        super().encode(weight, mask)
        return Encoded(self, weight.shape, {"values": weight * mask})

    def decode(self, encoded):
        return encoded.arrays["values"]


class Widens(Own):
    def decode(self, encoded):
        return super().decode(encoded).astype(np.float64)


class TakesAnything(Own):
    def encode(self, weight, mask):
        whole = np.ones_like(mask)
        return super().encode(np.where(mask, weight, weight.dtype.type(0)), whole)


class ChangesItsInput(Own):
    def encode(self, weight, mask):
        encoded = super().encode(weight, mask)
        weight[~mask] = 0
        return encoded


class ForgetsTails(Own):
    def choose(self, scores, keep=None):
        mask = super().choose(scores, keep)
        mask[mask.shape[0] // 2 * 2 :] = False
        return mask


class ChoosesMisfits(Own):
    def choose(self, scores, keep=None):
        mask = super().choose(scores, keep)
        if mask.size > 1:
            mask[0, 0] ^= True
        return mask


class ChoosesTheFirst(Own):
    def choose(self, scores, keep=None):
        return super().choose(np.ones_like(scores), keep)


class CountsWrong(Own):
    def levels(self, shape):
        return super().levels(shape) + 1


class FitsNothing(Own):
    def fits(self, mask):
        return "it is not empty" if mask.any() else None

    def choose(self, scores, keep=None):
        return np.zeros(scores.shape, dtype=bool)

    def levels(self, shape):
        return None

    def gains(self, scores):
        return np.zeros(1)


class Draws(Own):
    def encode(self, weight, mask):
        encoded = super().encode(weight, mask)
        return with_arrays(encoded, salt=np.random.default_rng().random(2))

    def decode(self, encoded):
        arrays = {name: encoded.arrays[name] for name in ("values", "columns", "offsets")}
        return super().decode(replace(encoded, arrays=arrays))


class NamedLikeAnother(Own):
    def __str__(self):
        return "csr"


class LiesAboutItsTile(NM):
    tile = (1, 1)

    def __init__(self):
        super().__init__(2, 4)


def test_a_right_format_passes():
    assert check_format(Own()) > 100


@pytest.mark.parametrize(
    ("format", "why"),
    [
        (DropsLast, "come back as"),
        (StoresWhatIsRemoved, "come back as nan"),
        (Widens, "become float64"),
        (TakesAnything, "takes a mask that does not fit"),
        (ChangesItsInput, "changes what it is given"),
        (ForgetsTails, "does not keep what the gains say"),
        (ChoosesMisfits, "does not fit"),
        (ChoosesTheFirst, "does not keep what the gains say"),
        (CountsWrong, "levels and"),
        (FitsNothing, "no mask that keeps anything"),
        (Draws, "something else the second time"),
        (LiesAboutItsTile, "order of inputs within tiles of 1 matters"),
        (NamedLikeAnother, "is that of CSR"),
    ],
)
def test_a_broken_promise_is_found(format, why):
    with pytest.raises(FormatError, match=why):
        check_format(format())
