"""The page: one self-contained index.html with all figures inside; it fetches nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runner.report.analysis import Analysis
from runner.report.certificate_bands import alarms
from runner.report.findings import describe, findings, seed_note
from runner.report.flagged import doubts
from runner.report.tables.certificates import certificate_table
from runner.report.tables.comparisons import comparison_table
from runner.report.tables.conditions import condition_table
from runner.report.tables.suites import suite_table
from runner.report.tables.summary import Table
from runner.report.tables.transfers import transfer_table

if TYPE_CHECKING:
    from runner.report.figures.files import Picture
    from runner.report.figures.page_galleries import PageGallery


def render(
    analysis: Analysis,
    title: str,
    command: str,
    tables: Sequence[Table] = (),
    table_files: Sequence[str] = (),
    pictures: Mapping[str, Sequence[Picture]] | None = None,
    galleries: Mapping[str, Sequence[PageGallery]] | None = None,
) -> str:
    """The page as text, from the summary tables and the figures that were written; without them if no run finished.

    `pictures` are by section of the page, `galleries` by title of the panel.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined  # late: only this function needs it

    environment = Environment(
        loader=PackageLoader("runner.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["configuration"] = configuration
    page = {
        "title": title,
        "command": command,
        "sentence": describe(analysis),
        "seed_note": seed_note(analysis),
        "findings": findings(analysis),
        "alarms": alarms(analysis.data),
        "doubts": doubts(analysis.data),
        "tables": tables,
        "table_files": table_files,
        "pictures": defaultdict(list, pictures or {}),
        "galleries": galleries or {},
        "plots": [picture.file for section in (pictures or {}).values() for picture in section],
        "comparisons": comparison_table(analysis),
        "certificates": certificate_table(analysis.bands),
        "suites": suite_table(analysis.suites),
        "transfers": transfer_table(analysis.transfers),
        "conditions": condition_table(analysis.table),
        "data": analysis.data,
    }
    return environment.get_template("index.html.jinja").render(page)


def configuration(failure: Mapping[str, Any]) -> str:
    """The configuration of a failed run as far as it is known, else its folder."""
    known = [
        str(failure[key])
        for key in ("dataset", "model", "weights", "defense", "attribution", "attack")
        if key in failure
    ]
    return ", ".join(known) or str(failure.get("folder", "unknown"))
