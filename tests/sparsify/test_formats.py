"""Layouts: what is stored, where, and that a kernel which follows the documentation is right."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune.errors import FormatError
from autoprune.passes.sparsify.formats.blocks import CSR, Bitmask, Block
from autoprune.passes.sparsify.formats.patterns import NM, ConstantFanIn
from autoprune.passes.sparsify.layout import as_index
from autoprune.passes.sparsify.masks import find_mask, l2
from autoprune.passes.sparsify.registry import parse_format
from autoprune.testing import check_format
from tests.effort import examples
from tests.sparsify.formats import NAMES, seeds, sides, sparsities, sparsity_for
from tests.tolerance import ROUNDING_DOUBLE


@pytest.mark.parametrize("name", NAMES)
def test_formats_keep_their_promises(name):
    assert check_format(parse_format(name)) > 100


def blocks_kernel(format, values, columns, offsets, x, outputs):
    y = np.zeros(len(offsets[1:]) * format.rows)
    for row in range(len(offsets) - 1):
        for b in range(offsets[row], offsets[row + 1]):
            for c in range(format.cols):
                if columns[b] + c < len(x):
                    top = row * format.rows
                    y[top : top + format.rows] += values[b, c] * x[columns[b] + c]
    return y[:outputs]


def nm_kernel(format, values, columns, x, outputs):
    rows, groups, n, shared = values.shape
    # The documented equivalence: blocks of `shared` outputs, a fixed number in each row.
    block = Block(shared, 1)
    offsets = np.arange(rows + 1) * groups * n
    return blocks_kernel(block, values.reshape(-1, 1, shared), columns.ravel(), offsets, x, outputs)


def fan_in_kernel(format, values, columns, x, outputs):
    return (values * x[columns]).sum(axis=1)


def csr_kernel(format, values, columns, offsets, x, outputs):
    spans = [slice(*offsets[o : o + 2]) for o in range(outputs)]
    return np.array([values[span] @ x[columns[span]] for span in spans])


def bitmask_kernel(format, values, words, offsets, x, outputs):
    y = np.zeros(outputs)
    for o in range(outputs):
        at = offsets[o]
        for i in range(len(x)):
            if words[o, i // 16] >> (i % 16) & 1:
                y[o] += values[at] * x[i]
                at += 1
        assert at == offsets[o + 1]
    return y


KERNELS = {
    Block: blocks_kernel,
    NM: nm_kernel,
    ConstantFanIn: fan_in_kernel,
    CSR: csr_kernel,
    Bitmask: bitmask_kernel,
}


@given(st.sampled_from(NAMES), sides, sides, sparsities, seeds)
@settings(max_examples=examples(60))
def test_a_kernel_that_follows_the_documentation_multiplies_by_the_kept_weights(
    name, outputs, inputs, sparsity, seed
):
    rng = np.random.default_rng(seed)
    weight, x = rng.standard_normal((outputs, inputs)), rng.standard_normal(inputs)
    format = parse_format(name)
    mask = find_mask(format, l2(weight), sparsity_for(name, sparsity))
    encoded = format.encode(weight, mask)
    y = KERNELS[type(format)](format, *encoded.arrays.values(), x, outputs)
    np.testing.assert_allclose(y, np.where(mask, weight, 0) @ x, atol=ROUNDING_DOUBLE)
    for array_name, array in encoded.arrays.items():
        assert array.flags.c_contiguous
        if array_name == "columns":
            assert array.dtype == np.int32
            assert array.size == 0 or (array.min() >= 0 and array.max() < inputs)


WEIGHT = np.arange(1, 16, dtype=np.float32).reshape(3, 5)
"""Outputs 0 to 2 by inputs 0 to 4."""


def arrays(format, mask):
    encoded = format.encode(WEIGHT, np.array(mask, dtype=bool))
    return {name: array.tolist() for name, array in encoded.arrays.items()}


def test_blocks_are_stored_row_after_row_with_outputs_innermost():
    mask = [[1, 0, 0, 1, 0], [1, 0, 0, 1, 0], [0, 0, 1, 0, 0]]
    assert arrays(Block(2, 1), mask) == {
        "values": [[[1, 6]], [[4, 9]], [[13, 0]]],
        "columns": [0, 3, 2],
        "offsets": [0, 2, 3],
    }


def test_the_last_block_of_a_row_ends_with_the_inputs():
    mask = [[0, 0, 0, 0, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert arrays(Block(1, 2), mask) == {
        "values": [[[0], [5]], [[6], [7]]],
        "columns": [3, 0],
        "offsets": [0, 1, 2, 2],
    }


def test_a_group_that_keeps_too_few_is_filled_up_with_zeros():
    mask = [[0, 1, 0, 1, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1]]
    assert arrays(NM(2, 4), mask) == {
        "values": [
            [[[2], [4]], [[5], [0]]],
            [[[6], [0]], [[0], [0]]],
            [[[0], [0]], [[15], [0]]],
        ],
        "columns": [[[1, 3], [4, 4]], [[0, 1], [4, 4]], [[0, 1], [4, 4]]],
    }


def test_fan_in_follows_the_fullest_output():
    mask = [[0, 1, 0, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]
    assert arrays(ConstantFanIn(), mask) == {
        "values": [[2, 4], [10, 0], [0, 0]],
        "columns": [[1, 3], [4, 0], [0, 1]],
    }


def test_single_weights():
    mask = [[0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 1]]
    assert arrays(CSR(), mask) == {
        "values": [2, 4, 11, 15],
        "columns": [1, 3, 0, 4],
        "offsets": [0, 2, 2, 4],
    }
    assert arrays(Bitmask(), mask) == {
        "values": [2, 4, 11, 15],
        "words": [[0b01010], [0], [0b10001]],
        "offsets": [0, 2, 2, 4],
    }


def test_storage_counts_padding_and_indices():
    weight = np.ones((6, 8), dtype=np.float32)
    mask = np.zeros((6, 8), dtype=bool)
    mask[4:, 3] = True
    assert Block(4, 1).encode(weight, mask).nbytes == 4 * 4 + 4 + 4 * 3
    assert CSR().encode(weight, mask).nbytes == 2 * 4 + 2 * 4 + 4 * 7
    assert Bitmask().encode(weight, mask).nbytes == 2 * 4 + 6 * 2 + 4 * 7


@pytest.mark.parametrize(
    ("format", "mask", "why"),
    [
        (Block(2, 1), [[1, 0], [0, 0]], "the block of outputs 0 to 1 and input 0 is kept in part"),
        (Block(2, 1), [[0, 0], [0, 0], [1, 0]], None),
        (NM(1, 2), [[1, 0, 1], [1, 1, 0]], "2 of inputs 0 to 1 are kept for output 1, not 1"),
        (NM(1, 2, 2), [[1, 0], [0, 1]], "outputs 0 to 1 do not share a pattern at input 1"),
        (ConstantFanIn(1), [[1, 0], [1, 1]], "output 1 keeps 2 inputs"),
    ],
)
def test_why_a_mask_does_not_fit(format, mask, why):
    mask = np.array(mask, dtype=bool)
    assert format.fits(mask) == why
    if why is not None:
        with pytest.raises(FormatError, match=why):
            format.encode(np.ones(mask.shape), mask)


@pytest.mark.parametrize(
    ("weight", "mask"),
    [
        (np.ones((2, 2, 3, 3)), np.ones((2, 2, 3, 3), dtype=bool)),
        (np.ones((0, 3)), np.ones((0, 3), dtype=bool)),
        (np.ones((2, 3)), np.ones((3, 2), dtype=bool)),
        (np.ones((2, 3)), np.ones((2, 3))),
    ],
)
def test_what_is_no_matrix_and_mask_is_refused(weight, mask):
    with pytest.raises(FormatError, match="shape"):
        CSR().encode(weight, mask)


@pytest.mark.parametrize(
    "make", [lambda: Block(0, 1), lambda: NM(3, 2), lambda: NM(1, 2, 0), lambda: ConstantFanIn(0)]
)
def test_impossible_formats_are_refused(make):
    with pytest.raises(FormatError, match=r"there (is|are) no"):
        make()


def test_more_weights_than_an_index_counts_are_refused():
    with pytest.raises(FormatError, match="32 bits"):
        as_index(np.array([2**31]))
