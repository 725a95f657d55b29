"""Modules: their graph, and networks cut out of them."""
