"""Means, intervals, areas and critical radii from rows (one per example and epsilon).

Everything before this package is per example.
"""

from runner.stats.critical import Level, critical, critical_radii, halfway
from runner.stats.curves import area_under_curve, areas, summarise
from runner.stats.paired import AREA, differences, holm, over_seeds, seeds_needed
from runner.stats.seeds import Interval, seed_interval

__all__ = [
    "AREA",
    "Interval",
    "Level",
    "area_under_curve",
    "areas",
    "critical",
    "critical_radii",
    "differences",
    "halfway",
    "holm",
    "over_seeds",
    "seed_interval",
    "seeds_needed",
    "summarise",
]
