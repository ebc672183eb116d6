"""The whole report with its figures: which files it writes, that the page stands alone, and that it is never torn."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from synthetic_store import Store

from runner.core.errors import StoreError
from runner.report.build import build_report

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Checks nesting and collects what the page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        self.ids |= {found["id"]} if "id" in found else set()
        if "src" in found:
            self.sources.append(found["src"])
        if "href" in found:
            self.links.append(found["href"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def report(store: Store, out: Path) -> Path:
    return build_report(store.folders, store.models, out, "Title", "python run.py job=report")


@pytest.fixture(scope="module")
def built(quickstart: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(quickstart, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Every section of the page in one small store: a certificate, a transfer, two settings, an odd name. Add nothing to it."""
    made = Store(tmp_path_factory.mktemp("varied") / "outputs", metrics=("topk_intersection",))
    source = {
        "run": "x",
        "model": "small_cnn",
        "defense": "none",
        "attribution": "smoothgrad",
        "attack": "topk",
        "seed": 0,
    }
    source |= {"white_box": "absent", "itself": False, "map_cosine": 0.5, "same_prediction": 1.0, "found": 0.75}
    made.attack_with_bound(-0.1, history=True, gallery=True)
    made.attack("<b>", 0, norm="linf", epsilons=[0.0, 0.5, float("inf")], gallery=False)
    made.attack("ssr", 0, attack="transfer_attribution-smoothgrad-topk", result={"source": source}, gallery=False)
    made.failed("ssr", 1)
    return made


@pytest.fixture(scope="module")
def varied_page(varied: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(varied, tmp_path_factory.mktemp("varied_report"))


def test_all_files_are_there_and_parse(built: Path) -> None:
    tables = ["areas.csv", "comparisons.csv", "critical.csv", "curves.csv", "summary.csv", "summary.md", "summary.tex"]
    assert sorted(path.name for path in (built.parent / "tables").iterdir()) == tables
    assert len(pd.read_csv(built.parent / "tables" / "summary.csv")) == 8
    plots = sorted(path.name for path in (built.parent / "plots").iterdir())
    assert len(plots) == 5
    for name in plots:
        assert ElementTree.parse(built.parent / "plots" / name).getroot().tag.endswith("}svg")


def test_the_page_stands_alone(built: Path) -> None:
    page = Page(built.read_text())
    starts = {"data:image/png;base64": b"\x89PNG", "data:image/svg+xml;base64": b"<?xml"}
    heads = []
    for source in page.sources:
        head, data = source.split(",", 1)
        assert base64.b64decode(data).startswith(starts[head])
        heads.append(head)
    assert [heads.count(head) for head in starts] == [8 * 3, 5]
    text = re.sub(r"data:image/(png|svg\+xml);base64,[A-Za-z0-9+/=]+", "", built.read_text())
    assert not re.search(r"https?://|//[a-z]|@import|url\(", text)


def test_links_lead_somewhere(built: Path) -> None:
    page = Page(built.read_text())
    relative = [link for link in page.links if not link.startswith(("#", "data:"))]
    assert len(relative) == 7 + 5
    assert all((built.parent / link).is_file() for link in relative)
    assert {link[1:] for link in page.links if link.startswith("#")} <= page.ids


def test_optional_sections_have_figures_and_files(varied_page: Path) -> None:
    page = Page(varied_page.read_text())
    assert {"summary", "curves", "certificates", "transfer", "cost", "gallery", "training", "failures"} <= page.ids
    files = {path.relative_to(varied_page.parent).as_posix() for path in varied_page.parent.rglob("*.*")}
    assert {"tables/certificates.csv", "tables/transfer.csv"} <= files
    plots = {name.removeprefix("plots/") for name in files if name.startswith("plots/") and name.endswith(".svg")}
    kinds = [re.sub(r"-.*", "", name) for name in sorted(plots)]
    assert kinds == ["curves"] * 3 + ["scatter"] * 2 + ["training", "transfer"]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in plots)


def test_the_same_store_makes_the_same_bytes(varied: Store, varied_page: Path, tmp_path: Path) -> None:
    first, second = varied_page.parent, report(varied, tmp_path / "again").parent
    files = sorted(path.relative_to(first) for path in first.rglob("*.*"))
    assert files == sorted(path.relative_to(second) for path in second.rglob("*.*"))
    for path in files:
        assert (first / path).read_bytes() == (second / path).read_bytes(), path


@pytest.mark.parametrize("epsilons", [[0.0], [0.0, float("inf")]])
def test_missing_figures_leave_out_their_sections(small_store: Store, tmp_path: Path, epsilons: list[float]) -> None:
    """One finite budget is enough for the other figures."""
    small_store.attack("none", 0, epsilons=epsilons, gallery=False, history=False)
    small_store.attack("ssr", 0, epsilons=epsilons, strength=0.2, gallery=False, history=False)
    page = Page(report(small_store, tmp_path / "out").read_text())
    assert len(page.sources) == 2
    assert page.ids.isdisjoint({"gallery", "training", "certificates", "transfer", "suites", "strength", "failures"})


def test_a_sweep_that_failed_whole_still_has_a_page(small_store: Store, tmp_path: Path) -> None:
    small_store.failed("none", 0)
    small_store.failed("ssr", 0)
    path = report(small_store, tmp_path / "out")
    assert "None of the 2 runs finished." in path.read_text()
    assert Page(path.read_text()).sources == []
    assert [item.name for item in path.parent.iterdir()] == ["index.html"]


def test_an_interruption_leaves_the_old_page(
    small_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_store.failed("none", 0)
    path = report(small_store, tmp_path / "out")
    before, replace = path.read_text(), os.replace

    def killed(source: Path, target: Path) -> None:
        if Path(target).name == "index.html":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr("runner.store.files.os.replace", killed)
    small_store.failed("ssr", 0)
    with pytest.raises(KeyboardInterrupt):
        report(small_store, tmp_path / "out")
    assert path.read_text() == before
    assert [item.name for item in path.parent.iterdir() if item.is_file()] == ["index.html"]


def test_a_store_without_runs_is_refused(small_store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        report(small_store, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_draws_and_integrates_is_imported_late() -> None:
    late = {"matplotlib", "scipy", "jinja2", "torch", "wandb"}
    script = f"import sys, runner.report.build, runner.stats; assert not {late} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
