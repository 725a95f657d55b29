"""What was pruned, what was not, and why: as data, as JSON, as a table, as an HTML page."""

from autoprune.report.data import GroupRow, PinnedRow, Report, Subject, UnknownOperator
from autoprune.report.quantities import milliseconds, quantity, times_faster
from autoprune.report.tables import heading, plain_table, show

__all__ = [
    "GroupRow",
    "PinnedRow",
    "Report",
    "Subject",
    "UnknownOperator",
    "heading",
    "milliseconds",
    "plain_table",
    "quantity",
    "show",
    "times_faster",
]
