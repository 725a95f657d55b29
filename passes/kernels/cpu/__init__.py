"""The kernels for processors: of each the class, and the functions that TVM compiles.

A module here that defines a kernel (`registry.define`) is found without being named anywhere.
"""
