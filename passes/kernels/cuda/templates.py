"""Sparse linear layers for CUDA as TVM functions, with bias, residual and activation inside.

Y[m, o] = activation(sum over k of W[o, k] X[m, k] + bias[o] + added[m, o]). Weights are stored as
on processors, by blocks of `rows` outputs at one input each; what differs is `starts`: where the
blocks of every block row and, within it, of every `DEPTH` inputs begin. All sizes are symbolic and
weights are arguments, so that one function serves every layer.

* `Split`, for few positions, where reading weights takes the time: a thread block for each block
  row. Its threads read the values as they lie in memory, each for its own output and every so many
  blocks, and are added up in shared memory.
* `Tiled`, for many positions, where arithmetic does: a thread block takes several block rows, a
  warp for each, and a tile of positions, whose activations it moves through shared memory, `DEPTH`
  inputs at a time. A thread multiplies some outputs by some positions, so that whatever it has
  loaded is used several times.

Numbers are float32, or float16 with sums in float32; bias is float32.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from autoprune.passes.kernels.activations import ACTIVATIONS, check_activation
from autoprune.passes.kernels.cuda.kernels import WARP, WARPS, Function, Split, Tiled
from autoprune.passes.kernels.cuda.weights import DEPTH


def primitive(kernel: Function) -> Any:
    """The kernel as a TVM function.

    Its arguments are activations [positions, inputs], values [blocks, rows], index [blocks], starts
    [block rows * chunks + 1], bias [block rows, rows], a tensor to add [positions, outputs] (any,
    if there is none to add), the output [positions, outputs], and the number of chunks, which is
    inputs / `DEPTH`, rounded up. The last block row may have more outputs than there are; these are
    not written.

    Raises:
        ValueError: if there is no such activation.
    """
    check_activation(kernel.activation)
    return _split(kernel) if isinstance(kernel, Split) else _tiled(kernel)


def _split(kernel: Split) -> Any:
    rows, tile, threads, dtype = kernel.rows, kernel.tile, kernel.threads, kernel.dtype
    activation, residual = ACTIVATIONS[kernel.activation], kernel.residual
    slots = threads // rows
    halvings = slots.bit_length() - 1

    @T.prim_func
    def product(
        x: T.handle, values: T.handle, index: T.handle, starts: T.handle, bias: T.handle,
        added: T.handle, y: T.handle, chunks: T.int32,
    ):  # fmt: skip
        T.func_attr({"global_symbol": kernel.name, "tir.noalias": True})
        inputs = T.int32()
        positions = T.int32()
        outputs = T.int32()
        blocks = T.int32()
        block_rows = T.int32()
        ends = T.int32()
        X = T.match_buffer(x, (positions, inputs), dtype, align=4)
        V = T.match_buffer(values, (blocks, rows), dtype, align=4)
        I = T.match_buffer(index, (blocks,), "int32", align=4)  # noqa: E741
        S = T.match_buffer(starts, (ends,), "int32", align=4)
        B = T.match_buffer(bias, (block_rows, rows), "float32", align=4)
        R = T.match_buffer(added, (positions, outputs), dtype, align=4)
        Y = T.match_buffer(y, (positions, outputs), dtype, align=4)
        for o in T.thread_binding(block_rows, thread="blockIdx.x"):
            for p in T.thread_binding((positions + tile - 1) // tile, thread="blockIdx.y"):
                for t in T.thread_binding(threads, thread="threadIdx.x"):
                    sums = T.alloc_buffer((tile * threads,), "float32", scope="shared")
                    acc = T.alloc_buffer((tile,), "float32", scope="local")
                    for m in T.unroll(tile):
                        acc[m] = T.float32(0)
                    for b in T.serial(
                        (S[(o + 1) * chunks] - S[o * chunks] - t // rows + (slots - 1)) // slots
                    ):
                        for m in T.unroll(tile):
                            acc[m] += T.Cast(
                                "float32", V[S[o * chunks] + b * slots + t // rows, t % rows]
                            ) * T.Cast(
                                "float32",
                                # Positions beyond the last one repeat it, and are not written.
                                X[
                                    T.min(p * tile + m, positions - 1),
                                    I[S[o * chunks] + b * slots + t // rows],
                                ],
                            )
                    # The sums of the first half of the threads take up those of the second.
                    for h in T.unroll(halvings):
                        T.tvm_storage_sync("shared")
                        for m in T.unroll(tile):
                            sums[m * threads + t] = acc[m]
                        T.tvm_storage_sync("shared")
                        for m in T.unroll(tile):
                            acc[m] += T.if_then_else(
                                t < T.shift_right(threads, h + 1),
                                sums[m * threads + t + T.shift_right(threads, h + 1)],
                                T.float32(0),
                            )
                    if t < rows and o * rows + t < outputs:
                        for m in T.unroll(tile):
                            if p * tile + m < positions:
                                acc[m] += B[o, t] + (
                                    T.Cast("float32", R[p * tile + m, o * rows + t])
                                    if residual
                                    else T.float32(0)
                                )
                                Y[p * tile + m, o * rows + t] = T.Cast(dtype, activation(acc[m]))

    return product


def _tiled(kernel: Tiled) -> Any:
    rows, tile, threads, dtype = kernel.rows, kernel.tile, kernel.threads, kernel.dtype
    own_outputs, own_positions, lanes = kernel.outputs, kernel.positions, kernel.lanes
    activation, residual = ACTIVATIONS[kernel.activation], kernel.residual
    # Numbers that are moved at once: weights, and activations out of and into shared memory.
    read, vector, group = min(4, own_outputs), min(4, own_positions), min(4, tile)
    # So that threads that write four numbers each, for inputs beside each other, meet other banks.
    stride = tile + 4
    pieces = DEPTH * (tile // group) // threads

    @T.prim_func
    def product(
        x: T.handle, values: T.handle, index: T.handle, starts: T.handle, bias: T.handle,
        added: T.handle, y: T.handle, chunks: T.int32,
    ):  # fmt: skip
        T.func_attr({"global_symbol": kernel.name, "tir.noalias": True})
        inputs = T.int32()
        positions = T.int32()
        outputs = T.int32()
        blocks = T.int32()
        block_rows = T.int32()
        ends = T.int32()
        X = T.match_buffer(x, (positions, inputs), dtype, align=4)
        V = T.match_buffer(values, (blocks, rows), dtype, align=4)
        I = T.match_buffer(index, (blocks,), "int32", align=4)  # noqa: E741
        S = T.match_buffer(starts, (ends,), "int32", align=4)
        B = T.match_buffer(bias, (block_rows, rows), "float32", align=4)
        R = T.match_buffer(added, (positions, outputs), dtype, align=4)
        Y = T.match_buffer(y, (positions, outputs), dtype, align=4)
        for q in T.thread_binding((block_rows + (WARPS - 1)) // WARPS, thread="blockIdx.x"):
            for p in T.thread_binding((positions + tile - 1) // tile, thread="blockIdx.y"):
                for t in T.thread_binding(threads, thread="threadIdx.x"):
                    shared = T.alloc_buffer((DEPTH * stride,), "float32", scope="shared")
                    moved = T.alloc_buffer((group,), "float32", scope="local")
                    w = T.alloc_buffer((own_outputs,), "float32", scope="local")
                    a = T.alloc_buffer((own_positions,), "float32", scope="local")
                    acc = T.alloc_buffer((own_outputs * own_positions,), "float32", scope="local")
                    for i in T.unroll(own_outputs * own_positions):
                        acc[i] = T.float32(0)
                    for c in T.serial(chunks):
                        T.tvm_storage_sync("shared")
                        for j in T.unroll(pieces):
                            for g in T.unroll(group):
                                moved[g] = T.if_then_else(
                                    p * tile + (j * threads + t) // DEPTH * group + g < positions
                                    and c * DEPTH + t % DEPTH < inputs,
                                    T.Cast(
                                        "float32",
                                        X[
                                            p * tile + (j * threads + t) // DEPTH * group + g,
                                            c * DEPTH + t % DEPTH,
                                        ],
                                    ),
                                    T.float32(0),
                                )
                            for g in T.vectorized(group):
                                shared[
                                    t % DEPTH * stride + (j * threads + t) // DEPTH * group + g
                                ] = moved[g]
                        T.tvm_storage_sync("shared")
                        if q * WARPS + t // WARP < block_rows:
                            for b in T.serial(
                                S[(q * WARPS + t // WARP) * chunks + c + 1]
                                - S[(q * WARPS + t // WARP) * chunks + c]
                            ):
                                for i in T.unroll(own_outputs // read):
                                    for g in T.vectorized(read):
                                        w[i * read + g] = T.Cast(
                                            "float32",
                                            V[
                                                S[(q * WARPS + t // WARP) * chunks + c] + b,
                                                t % lanes * own_outputs + i * read + g,
                                            ],
                                        )
                                for j in T.unroll(own_positions // vector):
                                    for g in T.vectorized(vector):
                                        a[j * vector + g] = shared[
                                            (
                                                I[S[(q * WARPS + t // WARP) * chunks + c] + b]
                                                - c * DEPTH
                                            )
                                            * stride
                                            + (j * (WARP // lanes) + t % WARP // lanes) * vector
                                            + g
                                        ]
                                for i in T.unroll(own_outputs):
                                    for j in T.unroll(own_positions):
                                        acc[i * own_positions + j] += w[i] * a[j]
                    for i in T.unroll(own_outputs):
                        for j in T.unroll(own_positions):
                            at = T.alloc_buffer((2,), "int32", scope="local")
                            at[0] = (
                                p * tile
                                + (j // vector * (WARP // lanes) + t % WARP // lanes) * vector
                                + j % vector
                            )
                            at[1] = (q * WARPS + t // WARP) * rows + t % lanes * own_outputs + i
                            if at[0] < positions and at[1] < outputs:
                                acc[i * own_positions + j] += B[
                                    q * WARPS + t // WARP, t % lanes * own_outputs + i
                                ] + (
                                    T.Cast("float32", R[at[0], at[1]]) if residual else T.float32(0)
                                )
                                Y[at[0], at[1]] = T.Cast(
                                    dtype, activation(acc[i * own_positions + j])
                                )

    return product
