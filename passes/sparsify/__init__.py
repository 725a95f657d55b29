"""Fine-grained sparsity: where weights may be zero, which ones are, and how the rest is stored.

Three things that are chosen independently of each other, after STen (Ivanov et al., 2023): a
*format* says which patterns are allowed and how to store them (`layout`), a *sparsifier* picks the
weights to keep (`masks`, `distribution`, `reconstruction`), and a kernel multiplies by what is
stored. `rearrangement` reorders channels first, so that a pattern costs less.

Weights are matrices [outputs, inputs]; those of a convolution are [outputs, kernel * inputs].
"""
