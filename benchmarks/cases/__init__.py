"""The cases, one file a family."""

from __future__ import annotations

from benchmarks.case import Case
from benchmarks.cases import attacks, growth, metrics, program, report, trainings, values

CASES: dict[str, Case] = {
    case.name: case
    for family in (attacks, values, metrics, trainings, program, report, growth)
    for case in family.CASES
}
