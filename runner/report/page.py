"""One self-contained index.html: every figure is inside it, nothing is fetched from anywhere."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from runner.report.analysis import Analysis, select
from runner.report.naming import in_order
from runner.report.scatter import quantity
from runner.report.tables import CRITICAL, DASH, Column, Table, cells_of, decimals

MAX_FINDINGS = 12


@dataclass(frozen=True)
class Picture:
    """One embedded figure."""

    name: str
    caption: str
    data: bytes

    @property
    def uri(self) -> str:
        """The figure as a data URI."""
        return f"data:image/png;base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True)
class Page:
    """What the template shows."""

    title: str
    command: str
    sentence: str
    seed_note: str
    findings: list[str]
    tables: list[Table]
    curves: list[Picture]
    scatters: list[Picture]
    galleries: dict[str, list[Picture]]
    training: list[Picture]
    conditions: list[dict[str, str]]
    failures: list[dict[str, Any]]
    notes: list[str]
    provenance: dict[str, list[str]]
    files: dict[str, list[str]] = field(default_factory=dict)
    bands: list[dict[str, str]] = field(default_factory=list)
    """Certificates next to attacks, a row per cell and budget."""
    alarms: list[str] = field(default_factory=list)
    """A sentence for every certificate that an attack beat."""
    doubts: list[str] = field(default_factory=list)
    """A sentence for every flag that an attack suite raised."""
    suites: list[dict[str, str]] = field(default_factory=list)
    """Attack suites and their members, a row per cell."""
    strengths: list[Picture] = field(default_factory=list)
    """Attacks side by side."""
    transfers: list[dict[str, str]] = field(default_factory=list)
    """Cells of the transfer matrices."""
    matrices: list[Picture] = field(default_factory=list)


def render(page: Page) -> str:
    """The page as text."""
    loader = PackageLoader("runner.report", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"groupby_adjacent": spans, "cell_name": cell_name}
    return environment.get_template("index.html.jinja").render(page=page)


@dataclass(frozen=True)
class Span:
    """Neighbouring columns under one heading."""

    name: str
    count: int


def spans(columns: Sequence[Column]) -> list[Span]:
    """The headings above the headings."""
    return [Span(name, len(list(members))) for name, members in groupby(columns, key=lambda column: column.group)]


def cell_name(failure: Mapping[str, Any]) -> str:
    """What is known of a failed run's place in the sweep."""
    known = [str(failure[key]) for key in ("dataset", "model", "defense", "attribution", "attack") if key in failure]
    return ", ".join(known) or str(failure.get("folder", "unknown"))


def describe(analysis: Analysis) -> str:
    """What was measured, in a sentence or two."""
    data = analysis.data
    if not len(data.runs):
        return f"None of the {len(data.failures)} runs finished."
    counts = {key: in_order(map(str, data.runs[key])) for key in ("defense", "attribution", "attack")}
    where = " and ".join(f"{setting['dataset']} / {setting['model']}" for setting in _unique_sites(analysis))
    budgets = "; ".join(_budgets(analysis, setting) for setting in analysis.settings())
    examples = sorted({int(number) for number in analysis.table["n_examples"].dropna()})
    seeds = sorted({int(seed) for seed in data.runs["seed"]})
    return (
        f"How far the attribution maps of {where} move under attack: "
        f"{_listed('defense', counts['defense'])}, {_listed('attribution', counts['attribution'])}, "
        f"{_listed('attack', counts['attack'])}; {budgets}; {' or '.join(map(str, examples))} test images; "
        f"{len(seeds)} training {'seed' if len(seeds) == 1 else 'seeds'}. "
        f"{len(data.runs)} runs finished, {len(data.failures)} did not."
    )


def _unique_sites(analysis: Analysis) -> list[dict[str, str]]:
    return list({(item["dataset"], item["model"]): item for item in analysis.settings()}.values())


def _listed(noun: str, names: Sequence[str]) -> str:
    if len(names) > 6:
        return f"{len(names)} {noun}s"
    return f"{noun}{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _budgets(analysis: Analysis, setting: Mapping[str, str]) -> str:
    grid = sorted(select(analysis.curves, setting)["epsilon"].unique())
    finite = [epsilon for epsilon in grid if math.isfinite(epsilon)]
    span = f"{len(finite)} {setting['norm']} budgets from {finite[0]:g} to {finite[-1]:g}"
    return span + (" and no budget at all" if len(finite) < len(grid) else "")


def seed_note(analysis: Analysis) -> str:
    """What the number of seeds means for the intervals."""
    counts = [int(number) for number in analysis.table["n_seeds"] if number > 0] if len(analysis.table) else []
    if not counts:
        return ""
    if max(counts) == 1:
        return "Each cell has one training seed, so no interval over seeds can be given; differences may be chance."
    if min(counts) <= 2:
        return (
            "Some cells have two seeds or fewer. With two, the 95 % interval reaches 12.7 standard errors to each side "
            "and few differences can be told from chance; bands and error bars may run off the axes."
        )
    return ""


def findings(analysis: Analysis) -> list[str]:
    """For each panel: the defense with the best mean, and which ones the intervals do not separate from it."""
    sentences = []
    for setting in analysis.settings():
        for panel, rows in analysis.panels(setting):
            known = rows[rows["n_seeds"] > 0]
            if len(known) > 1:
                sentences.append(_finding(analysis, panel, known))
    return sentences[:MAX_FINDINGS]


def _finding(analysis: Analysis, panel: Mapping[str, str], rows: Any) -> str:
    info = analysis.data.metrics[analysis.primary(panel)]
    key, what = quantity(rows, info.name)
    column = Column(key, info.name, info.direction)
    cells = cells_of(rows, column, decimals(rows, column))
    names = list(rows["series"])
    best = [f"{name} ({cell.text})" for name, cell in zip(names, cells, strict=True) if cell.best]
    ties = [name for name, cell in zip(names, cells, strict=True) if cell.tie]
    apart = f"not separable from it: {', '.join(ties)}" if ties else "its interval overlaps no other"
    where = f"{panel['attribution']} under {panel['attack']}"
    if len(analysis.settings()) > 1:
        where += f" ({panel['dataset']} / {panel['model']}, {panel['norm']})"
    return f"{where}: the best mean {info.title} ({what}) is that of {' and '.join(best)}; {apart}."


def conditions(analysis: Analysis) -> list[dict[str, str]]:
    """How each cell was measured: examples, attack success, label, softplus twin, undefined values."""
    rows = []
    for record in analysis.table.to_dict("records"):
        if record["n_seeds"]:
            rows.append(
                {
                    "defense": record["series"],
                    "panel": ", ".join(
                        str(record[key]) for key in ("attribution", "attack", "dataset", "model", "norm")
                    ),
                    "images": str(int(record["n_examples"])),
                    "unharmed at the largest ε, %": _percent(record["unharmed"]),
                    "ε50 never reached, %": _percent(record.get(f"epsilon50_{CRITICAL}_never", math.nan)),
                    "label kept, %": _percent(record["label_preserved"]),
                    "softplus twin β": _optional(record["twin_beta"]),
                    "cosine of twin's map": _optional(record["twin_map_cosine"]),
                    "undefined values": str(int(record["undefined"])),
                    "failed": f"{int(record['failed'])} ({100 * record['failure_rate']:.0f} %)",
                }
            )
    return rows


def _percent(share: float) -> str:
    return DASH if math.isnan(share) else f"{100 * share:.1f}"


def _optional(value: float) -> str:
    return DASH if math.isnan(value) else f"{value:.3g}"
