"""Operator families: what each operator does to axes, to zeros, to cost and to its arguments.

Importing this package registers every family.
"""

from autoprune.ir.discovery import import_files

import_files(__name__)
