"""The files in `tables/`: CSV with all digits, Markdown and LaTeX."""

from __future__ import annotations

import io
import re

import pandas as pd
import pytest

from runner.report.analysis import Analysis
from runner.report.tables.files import table_files
from runner.report.tables.latex import escape, latex
from runner.report.tables.markdown import markdown
from runner.report.tables.summary import summary_tables


def test_csv_files_hold_full_precision_and_every_configuration(quickstart_analysis: Analysis) -> None:
    texts = table_files(quickstart_analysis, [], "Title")
    frames = {
        name: pd.read_csv(io.StringIO(texts[f"{name}.csv"]))
        for name in ("summary", "curves", "areas", "critical", "comparisons")
    }
    assert set(texts) == {*(f"{name}.csv" for name in frames), "summary.md", "summary.tex"}
    assert len(frames["summary"]) == 8
    assert len(frames["curves"]) == 8 * 11 * 5
    assert len(frames["areas"]) == 8 * 5 * 3
    assert len(frames["critical"]) == 8 * 4
    assert len(frames["comparisons"]) == 6 * (5 * (11 + 1) + 1)
    index = frames["areas"].set_index(["series", "attribution", "metric", "how"])["mean"]
    assert index["none", "saliency", "topk_intersection", "range"] == pytest.approx(0.8)
    assert index["none", "saliency", "topk_intersection", "index"] == pytest.approx(8.0)


def test_markdown_is_a_table_with_bold_bests(quickstart_analysis: Analysis) -> None:
    text = markdown(summary_tables(quickstart_analysis), "Quick")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 8
    assert len({line.count("|") for line in lines}) == 1
    assert "**0.900 ± 0.032**" in text


def test_latex_is_balanced_and_escaped(quickstart_analysis: Analysis) -> None:
    text = latex(summary_tables(quickstart_analysis), "50 % of quick_start & more")
    assert text.count(r"\begin{") == text.count(r"\end{")
    unescaped = re.sub(r"\\[{}]", "", text)
    assert unescaped.count("{") == unescaped.count("}")
    assert r"50 \% of quick\_start \& more" in text
    assert r"madry\_l2-0.3" in text
    assert r"\textbf{0.900 $\pm$ 0.032}" in text
    assert text.isascii()
    assert all(line.startswith("% needs") or "%" not in line.replace(r"\%", "") for line in text.splitlines())
    rows = [line for line in text.splitlines() if line.startswith(("none", "ssr", "madry"))]
    assert {line.count("&") for line in rows} == {14}
    assert "> 1" not in text
    assert "$>$~1" in text


def test_latex_escapes_each_special_character_once() -> None:
    assert escape("a_b%c\\d~{}") == r"a\_b\%c\textbackslash{}d\textasciitilde{}\{\}"
