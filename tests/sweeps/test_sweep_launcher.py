"""A sweep end to end, as a user starts it: `python run.py -m ...`."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from running import attack_run, train_run

from runner.store.folder import Folder

ROOT = Path(__file__).resolve().parents[2]
SWEEP = (
    *("attribution=saliency,input_x_gradient", "sweep=tiny", "hydra.launcher.processes=2"),
    *(
        "job=attack",
        "attack=topk",
        "dataset=digits",
        "model=mlp",
        "tracking=none",
        "dataset.train_size=200",
        "dataset.test_size=60",
    ),
    *("model.widths=[16]", "training.epochs=1", "metrics=[topk_intersection]", "examples=4", "attack.steps=2"),
    *("epsilon.stop=0.2", "epsilon.step=0.2"),
)


def call(outputs: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "run.py"), "-m", *SWEEP, f"outputs={outputs}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=environment)


def stamps(outputs: Path) -> dict[str, int]:
    kinds = (outputs / "models", outputs / "attacks")
    return {str(path): path.stat().st_mtime_ns for kind in kinds for path in kind.glob("*/*") if path.is_file()}


@pytest.mark.timeout(300)
def test_a_sweep_with_an_obstacle(compose, run_py, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    outputs = tmp_path / "outputs"
    here = ("-m", *SWEEP, f"outputs={outputs}")
    sizes = ("training.epochs=1", "metrics=[topk_intersection]", "examples=4", "attack.steps=2")
    budget = ("epsilon.stop=0.2", "epsilon.step=0.2")
    configs = [
        compose(*sizes, *budget, f"attribution={name}", "attack.chunk=50") for name in ("saliency", "input_x_gradient")
    ]
    other, obstructed = (attack_run(config).folder for config in configs)
    (obstructed / "rows.parquet").mkdir(parents=True)

    code, shown, _ = run_py(*here, "hydra.launcher.dry_run=true")
    assert code == 3
    assert len(re.findall(r"attack\s+│ missing", shown)) == 2
    assert "3 runs to do, inputs included: time unknown" in shown
    assert [path for path in outputs.rglob("*") if obstructed not in (path, path.parent)] == [outputs / "attacks"]

    first = call(outputs)
    assert first.returncode == 1, first.stderr
    assert "Traceback" not in first.stderr
    retry = first.stderr.strip().splitlines()[-1].removeprefix("error: 1 of 3 runs failed; to rerun them: ")
    assert shlex.split(retry) == [sys.executable, str(ROOT / "run.py"), *here, "rerun=failed"]
    assert re.search(rf"{obstructed.name}\s+│ IsADirectoryError", first.stderr)
    assert (Folder(obstructed).result() or {})["status"] == "failed"
    assert Folder(other).finished()
    assert {path.name for path in (outputs / "models").glob("*-*")} == {
        train_run(config).folder.name for config in configs
    }
    for config in configs:
        assert (train_run(config).folder / "run.log").read_text().count("train begins") == 1
    assert "IsADirectoryError" in (outputs / "reports" / "tiny" / "index.html").read_text()
    stated = json.loads((outputs / "sweeps" / "tiny" / "cells.json").read_text())["cells"]
    assert [cell["folder"] for cell in stated] == [f"attacks/{attack_run(config).folder.name}" for config in configs]

    reports: list[tuple[Any, ...]] = []  # the page was written above: here it counts that it would be
    monkeypatch.setattr("runner.report.stored_runs.report_on", lambda *given: reports.append(given))
    (obstructed / "rows.parquet").rmdir()
    before = {path: stamp for path, stamp in stamps(outputs).items() if not path.startswith(str(obstructed))}
    code, _, said = run_py(*here)
    assert code == 1, "a failure is not tried again unless it is told to"
    assert "2 cells, 0 runs to do" in said
    assert re.search(rf"{obstructed.name}\s+│ IsADirectoryError", said)
    code, _, said = run_py(*shlex.split(retry)[2:])
    assert code == 0
    assert "2 cells, 1 runs to do" in said
    assert Folder(obstructed).finished()
    after = stamps(outputs)
    assert {path: after[path] for path in before} == before

    code, _, said = run_py(*here)
    assert code == 0
    assert "2 cells, 0 runs to do" in said
    assert stamps(outputs) == after

    assert [len(failed) for *_, failed in reports] == [0, 0, 0], "what failed has a folder that says so"
    code, shown, _ = run_py(*here, "hydra.launcher.dry_run=true")
    assert code == 0
    assert len(re.findall(r"attack\s+│ done", shown)) == 2
