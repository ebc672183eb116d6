"""docs/extending.md: its files, written into a copy of the project, pass the command that it ends with; broken ones do not."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from composing import ROOT

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


def files() -> dict[str, str]:
    """Path -> content of every block that follows the path of its file."""
    return dict(re.findall(r"`((?:runner|conf|tests)/[\w./]+)`:\n\n```\w+\n(.*?)```", PAGE, flags=re.DOTALL))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what a contributor has, with the page's files in it."""
    for folder in ("runner", "conf", "tests/conformance"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "Makefile", "tests/composing.py", "tests/conftest.py"):
        shutil.copy(ROOT / file, tmp_path / file)
    for path, content in files().items():
        assert not (tmp_path / path).exists(), path
        (tmp_path / path).write_text(content, encoding="utf-8")
    return tmp_path


def conformance(project: Path) -> subprocess.CompletedProcess[str]:
    """What `make conformance NAME=...` of the page runs, without the set-up."""
    (name,) = re.findall(r"^make conformance NAME=(\S+)$", PAGE, flags=re.MULTILINE)
    (command,) = re.findall(r"\$\(BIN\)/python (-m pytest tests/conformance .*)", (project / "Makefile").read_text())
    arguments = command.replace('"$(NAME)"', name).split()
    environment = {**os.environ, "PYTHONPATH": f"{project}{os.pathsep}{project / 'runner' / 'plugins'}"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_the_page_names_its_files() -> None:
    assert [path.split("/")[0] for path in files()] == ["runner", "conf", "tests"]


def test_the_plug_in_of_the_page_passes(project: Path) -> None:
    done = conformance(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout
    assert "test_its_values_are_those_of_the_oracle[metrics=sign_agreement] PASSED" in done.stdout


def test_a_mistake_in_it_is_found(project: Path) -> None:
    file = project / "runner" / "metrics" / "sign_agreement.py"
    text = file.read_text(encoding="utf-8")
    assert "keepdim=True" in text
    file.write_text(text.replace(".mean(dim=(1, 2))", ".sum(dim=(1, 2))"), encoding="utf-8")
    done = conformance(project)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "test_values_are_finite_float64_inside_the_range[metrics=sign_agreement] FAILED" in done.stdout
