"""What a dry run tells: where each axis stands, what failed and why, and how long the rest will take."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fake_runs import FakeRun
from running import attack_run, plan_of

from runner.store.folder import Folder
from runner.store.locks import locked
from runner.sweeps import summary as sweep
from runner.sweeps.axes import label, points_of, varying, zipped_keys
from runner.sweeps.plan import Cell, Plan, Task

REASON = "ValueError: no [red]luck[/red]"
DEFENSES = [["defense=none"], ["defense=madry_l2", "defense.epsilon=0.3"]]


def test_axes_are_the_keys_that_vary_and_zipped_keys_are_one() -> None:
    batch = [["job=attack", f"seed={seed}", *defense] for seed in (0, 1) for defense in DEFENSES]
    axes = varying(points_of(batch, {"defense": "defense", "defense.epsilon": "defense"}))
    assert axes == {"seed": [("seed=0",), ("seed=1",)], "defense": [tuple(point) for point in DEFENSES]}
    axes = varying(points_of(batch, {}))
    assert axes["defense.epsilon"] == [(), ("defense.epsilon=0.3",)]
    assert label("defense", tuple(DEFENSES[1])) == "madry_l2 epsilon=0.3"
    assert label("defense.epsilon", ()) == "-"


def test_zipped_axes_with_a_common_key_are_one_and_the_command_line_wins() -> None:
    zipped: Any = {"a": [{"x": 1}, {"x": 2, "y": 3}], "b": [{"z": 1}], "c": [{"y": 1, "z": 2}]}
    assert zipped_keys(zipped, []) == {"x": "c", "y": "c", "z": "c"}
    assert zipped_keys(zipped, ["y"]) == {"x": "a", "z": "c"}


def run(folder: Path, job: str = "attack", **columns: Any) -> Any:
    columns = {"defense": "none", "model": "mlp", "dataset": "digits", **columns}
    return FakeRun(job, folder, columns, outputs=folder.parents[1])


def record(run: Any, status: str = "ok", **content: Any) -> None:
    Folder(run.folder).record(status, {"job": run.job.name, **run.columns, **content})


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Two seeds and three defenses: one run is done, one failed, the others are missing."""
    cells, tasks = [], dict[Path, Task]()
    for seed in (0, 1):
        for defense in ("none", "ssr", "art"):
            folder = tmp_path / "attacks" / f"{defense}-s{seed}-x"
            own = run(folder, defense=defense, attribution="saliency", attack="t")
            cells.append(Cell(["examples=5", f"seed={seed}", f"defense={defense}"], own))
            tasks[folder] = Task(own, [])
    made = Plan(cells, tasks)
    done, failed, *_ = made.runs
    del tasks[done.folder]
    record(done, seconds=60.0, seed=0, metrics={}, examples=5)
    record(failed, "failed", error=REASON)
    made.failed[failed.folder] = REASON
    return made


def rows(shown: str) -> dict[str, list[str]]:
    """The cells of each row of every table, by the first."""
    found = [[text.strip() for text in re.split("[│┃]", line)[1:-1]] for line in shown.splitlines() if "│" in line]
    return {row[0]: row[1:] for row in found if row}


def test_a_table_an_axis_the_failures_and_the_rest(plan: Plan, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sweep, "LISTED", 5)
    with locked(plan.runs[4].folder):
        assert plan.states() == ["done", "failed", "missing", "missing", "running", "missing"]
        assert sweep.print_plan(plan, 2) == 3
    shown = capsys.readouterr().out
    assert rows(shown) == {
        "0": ["1", "1", "1", "0", "0", "3"],
        "1": ["0", "2", "0", "0", "1", "3"],
        "none": ["1", "1", "0", "0", "0", "2"],
        "ssr": ["0", "0", "1", "0", "1", "2"],
        "art": ["0", "2", "0", "0", "0", "2"],
        "ssr-s0-x": [REASON],
    }
    assert "6 cells: 1 done, 3 missing, 1 failed, 0 stale, 1 running" in shown
    assert "5 runs to do, inputs included: about 2 min in 2 processes, 5 min in one" in shown
    sweep.print_plan(plan, 8, gpus=2)
    assert "inputs included: about 1 min in 5 processes, 0.2 GPU hours" in capsys.readouterr().out


def test_a_small_sweep_is_shown_cell_by_cell_too(plan: Plan, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    sweep.print_plan(plan, 1)
    shown = capsys.readouterr().out
    assert re.search(r"attack │ failed  │ seed=0 defense=ssr\s+│", shown)
    assert len(re.findall(r"attack │ missing", shown)) == 4


def test_what_is_left_alone_is_told_of_with_the_command(plan: Plan, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(
        "sys.argv", ["run.py", "-m", "model.widths=[16]", "rerun=failed", "hydra.launcher.dry_run=true"]
    )
    done, failed, unknown, *rest = (run.folder for run in plan.runs)
    del plan.tasks[failed], plan.tasks[unknown]
    plan.stale[done], plan.unknown = "changed: a, b", {unknown}
    assert plan.states() == ["stale", "failed", "done", *["missing"] * 3]
    assert sweep.print_plan(plan, 1) == 3
    shown = capsys.readouterr().out
    assert rows(shown)["changed: a, b"] == ["1"]
    again = "python run.py -m 'model.widths=[16]' rerun="
    assert f"1 finished runs are stale and were kept; to rerun them: {again}stale\n" in shown
    assert f"1 runs failed earlier and were skipped; to rerun them: {again}failed\n" in shown
    assert "1 finished runs are older than fingerprints" in shown
    assert "6 cells: 1 done, 3 missing, 1 failed, 1 stale, 0 running" in shown
    for folder in rest:
        del plan.tasks[folder]
    assert sweep.print_plan(plan, 1) == 3, "nothing to do, but not all is done"


@pytest.mark.parametrize(
    ("typed", "given", "told"),
    [
        (["/v/bin/python", "run.py"], ["-m", "a=1,2"], "/v/bin/python run.py -m a=1,2 rerun=all"),
        (["python3", "-W", "ignore", "run.py"], ["-m", "x=a b"], "python3 -W ignore run.py -m 'x=a b' rerun=all"),
        (["python", "run.py"], ["a=1", "rerun=stale", "-m"], "python run.py a=1 rerun=all -m"),
        (["python", "run.py"], [], "python run.py rerun=all"),
        (["pytest", "x"], ["-m", "+sweeps=$HOME"], "python run.py -m '+sweeps=$HOME' rerun=all"),
        (["/v/bin/python", "/v/attribution-robustness"], ["-m", "a=1,2"], "attribution-robustness -m a=1,2 rerun=all"),
    ],
)
def test_the_command_is_the_one_that_was_typed(monkeypatch, typed: list[str], given: list[str], told: str) -> None:
    monkeypatch.setattr("sys.argv", [typed[-1] if typed[0] != "pytest" else "run.py", *given])
    monkeypatch.setattr("sys.orig_argv", [*typed, *([] if typed[0] == "pytest" else given)])
    assert sweep.rerun_command("all") == told


def test_all_done(plan: Plan, capsys) -> None:
    plan.tasks.clear()
    plan.failed.clear()
    assert sweep.print_plan(plan, 1) == 0
    assert "0 runs to do, inputs included: nothing" in capsys.readouterr().out


def test_states_of_every_kind_of_cell_and_what_is_recorded(plan: Plan, tmp_path: Path) -> None:
    plan.cells.append(plan.cells[2])
    plan.cells.append(Cell([], run(tmp_path / "reports" / "x", "report")))
    plan.cells.append(Cell(["seed=9"], None, "seed > 8"))
    assert plan.states() == ["done", "failed", *["missing"] * 6, "skipped"]
    assert [own.folder.name for own in plan.runs].count("art-s0-x") == 2
    plan.record()
    stated = json.loads((tmp_path / "sweeps" / "tiny" / "cells.json").read_text())["cells"]
    assert len(stated) == 7
    assert stated[1] == {
        "job": "attack",
        "folder": "attacks/ssr-s0-x",
        "overrides": ["examples=5", "seed=0", "defense=ssr"],
    }


@pytest.mark.parametrize("order", [1, -1])
def test_an_attack_whose_images_another_cell_wants_runs_once_and_keeps_them(compose, order: int) -> None:
    white = compose("job=attack", "attack=topk")
    other = ("attribution=input_x_gradient", "attack.source.attack.steps=3")
    transfer = compose("job=attack", "attack=transfer_attribution", *other)
    plan = plan_of(*(white, transfer)[::order])
    folder = attack_run(white).folder
    assert [task.run.job.name for task in plan.tasks.values()].count("attack") == 2
    assert plan.tasks[folder].run.keeps_images
    assert plan.tasks[attack_run(transfer).folder].needs.count(folder) == 1
