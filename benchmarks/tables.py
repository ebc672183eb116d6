"""Results as Markdown: every row for the results file, and one line a case for the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.results import Row

_WHERE = {"one": "1 thread", "all": "all cores", "gpu": "GPU"}


def table(rows: Sequence[Row]) -> str:
    """All rows as Markdown."""
    lines = [
        "| case | peer | where | figure | value (range) | target | | MiB ours / peer | agreement |",
        "|---" * 9 + "|",
    ]
    for one in rows:
        low_high = f"{short(one.value)} ({short(one.low)} to {short(one.high)})"
        target = "" if one.target is None else f"{'>=' if one.kind.rises else '<='} {one.target:g}"
        memory = " / ".join("-" if value is None else f"{value:.0f}" for value in (one.ours_mib, one.theirs_mib))
        columns = (
            one.what,
            one.peer,
            _WHERE[one.where],
            one.figure,
            low_high,
            target,
            one.verdict,
            memory,
            one.agreement,
        )
        lines.append(f"| {' | '.join(columns)} |")
    return "\n".join(lines)


def summary(rows: Sequence[Row]) -> str:
    """The rows that have a target, one line each, as Markdown for a README: the figure in every place."""
    by_case: dict[str, dict[str, Row]] = {}
    for one in rows:
        if one.target is not None:
            by_case.setdefault(one.case, {})[one.where] = one
    places = [where for where in _WHERE if any(where in found for found in by_case.values())]
    lines = [
        f"| case | peer | {' | '.join(_WHERE[where] for where in places)} | target |",
        "|---" * (3 + len(places)) + "|",
    ]
    for found in by_case.values():
        first = next(iter(found.values()))
        values = [short(found[where].value) if where in found else "-" for where in places]
        target = f"{first.figure} {'>=' if first.kind.rises else '<='} {first.target:g}"
        lines.append(f"| {first.what} | {first.peer} | {' | '.join(values)} | {target} |")
    return "\n".join(lines)


def short(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def worse(rows: Sequence[Row], before: Sequence[Row]) -> list[str]:
    """A line for each row that is worse than the same row before by more than the noise."""
    old: Mapping[tuple[str, str, str], Row] = {one.key: one for one in before}
    return [
        f"{one.case}, {_WHERE[one.where]}: {one.figure} {short(one.value)} ({short(one.low)} to {short(one.high)}), was "
        f"{short(old[one.key].value)} ({short(old[one.key].low)} to {short(old[one.key].high)})"
        for one in rows
        if one.key in old and one.worse_than(old[one.key])
    ]
