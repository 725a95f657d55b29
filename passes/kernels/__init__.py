"""The kernels that sparse networks run on.

A sparse format with a kernel is two files. The format, in `passes/sparsify/formats`, says which
weights may stay together: an object with the members of `layout.Format`, named in `FAMILIES`. The
kernel, in `cpu`, is a frozen dataclass derived from `kernel.Kernel`, made known by
`registry.define`:

* `matches(product)` offers it for products whose zeros suit it, with what is stored and what that
  costs; the cheapest kernel is chosen, whatever format the zeros were made in.
* `encode(product)` makes the constants of its operator.
* `lower(target)` makes functions of TVM's that compute tiles for the operators in `c`, or leaves
  everything to an operator of its own, in C: `kernel.Code`.

The kernel for NVIDIA GPUs, in `cuda`, is one of another device: it has no operator in C.

A target is one entry of `target.TARGETS`. `CONTRIBUTING.md` has examples of both.
"""
