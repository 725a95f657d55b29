"""Checks for authors of rules, formats and criteria, and for networks: claims against numbers."""

from autoprune.testing.criteria import check_criterion
from autoprune.testing.formats import check_format
from autoprune.testing.networks import check_network
from autoprune.testing.rules import AxisRow, RuleReport, check_rule, examine_rule

__all__ = [
    "AxisRow",
    "RuleReport",
    "check_criterion",
    "check_format",
    "check_network",
    "check_rule",
    "examine_rule",
]
