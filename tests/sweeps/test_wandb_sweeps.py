"""The W&B sweeps of the project, expanded as W&B's agent does: each point composes, can run, and logs what is optimised."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from composing import ROOT, composed

from runner.core.config import resolved
from runner.core.errors import ConfigError
from runner.jobs import evaluate
from runner.runs.run import Run
from runner.tracking import Tracker

FILES = sorted((ROOT / "conf" / "sweeps" / "wandb").glob("*.yaml"))
BOUNDS = {"uniform", "q_uniform", "log_uniform_values", "int_uniform"}
STORED = ROOT / "tests" / "store" / "store_v1" / "evaluations"
SMALL = (
    *("dataset=digits", "model=mlp", "model.widths=[8]", "training.epochs=1", "dataset.train_size=100"),
    *("dataset.test_size=40", "examples=4", "attack.steps=2", "epsilon.stop=0.2", "tracking=wandb_offline"),
)


def stated(file: Path) -> dict[str, Any]:
    node: dict[str, Any] = yaml.safe_load(file.read_text())
    return node


def points(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every point of a grid; for a search the corners and a value inside, as long as a sampler writes it."""
    axes = {}
    for name, axis in node["parameters"].items():
        inside = axis.get("values") or [axis["min"], 0.1 + 0.7 * axis["max"] / 3.0, axis["max"]]
        axes[name] = inside
    for values in product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def arguments(node: dict[str, Any], point: dict[str, Any]) -> list[str]:
    """The command line that the agent starts."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args  # seconds

    told = create_sweep_command_args({"args": {name: {"value": value} for name, value in point.items()}})
    macros = {**told, "env": ["/usr/bin/env"], "interpreter": ["python"], "program": [node["program"]]}
    expanded: list[str] = []
    for word in create_sweep_command(list(node["command"])):
        expanded += macros[word[2:-1]] if word.startswith("${") else [word]
    return expanded


def test_there_is_a_grid_and_a_search() -> None:
    assert {stated(file)["method"] for file in FILES} == {"grid", "bayes"}


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_it_says_how_to_start_it_and_states_what_the_server_wants(file: Path) -> None:
    lines, node = file.read_text().splitlines(), stated(file)
    assert lines[0] == f"# wandb sweep {file.relative_to(ROOT)}"
    assert lines[1].startswith("# wandb agent ")
    assert (ROOT / node["program"]).is_file()
    assert node["name"] == file.stem
    assert node["project"] == composed().tracking.project
    assert node["metric"]["goal"] in ("maximize", "minimize")
    for name, axis in node["parameters"].items():
        if node["method"] == "grid":
            assert set(axis) == {"values"}, name
        else:
            assert axis["distribution"] in BOUNDS
            assert axis["min"] < axis["max"]


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_every_point_composes_can_run_and_is_a_run_of_its_own(file: Path, tmp_path: Path) -> None:
    node, runs, states = stated(file), set(), list(points(stated(file)))
    built: dict[str, Any] = {}
    for point in states:
        words = arguments(node, point)
        assert words[:3] == ["/usr/bin/env", "python", "run.py"]
        config = resolved(composed(*words[3:], f"outputs={tmp_path}"))
        Run.of(config, built)
        assert (config["tracking"]["mode"], config["sweep"]) == ("online", file.stem)
        for name, value in point.items():
            group, _, key = name.rpartition(".")
            assert (config[group] if group else config)[key] == pytest.approx(value, rel=1e-12)
        assert node["metric"]["name"].removeprefix("metric/") in config["metrics"]["measured"]
        runs.add(Run.of(config).identity)
    assert len(runs) == len(states)


def test_the_agents_command_is_one_run_under_the_agents_id_with_the_metric(tmp_path: Path) -> None:
    """The training that the attack needs is not a second run of that id."""
    node = stated(ROOT / "conf" / "sweeps" / "wandb" / "madry_l2_grid.yaml")
    program, *rest = arguments(node, {"seed": 1, "defense.epsilon": 0.3})[2:]
    parameters = tmp_path / "config-agentrun.yaml"
    parameters.write_text("wandb_version: 1\nseed:\n  value: 1\ndefense.epsilon:\n  value: 0.3\n")
    agent = {"WANDB_SWEEP_ID": "abc123", "WANDB_RUN_ID": "agentrun", "WANDB_SWEEP_PARAM_PATH": str(parameters)}
    command = [sys.executable, ROOT / program, *rest, *SMALL, f"outputs={tmp_path}"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    subprocess.run(command, env=clean | agent, check=True, cwd=tmp_path, timeout=120)
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    assert run.name.endswith("-agentrun")
    reader = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", "--summary", str(run)]
    told = json.loads(subprocess.run(reader, capture_output=True, text=True, check=True, env=clean).stdout)
    (result,) = (tmp_path / "attacks").glob("*/result.json")
    rows = pd.read_parquet(result.with_name("rows.parquet"))
    at_the_end = float(rows[rows.epsilon == 0.2].topk_intersection.mean())
    assert told["summary"][node["metric"]["name"]] == pytest.approx(at_the_end)
    assert told["config"]["defense"]["epsilon"] == told["config"]["defense.epsilon"] == 0.3


def test_an_evaluation_ends_with_the_metric_at_the_largest_budget() -> None:
    """What `ssr_bayes` optimises: W&B keeps the last value that was logged."""
    logged: list[tuple[float, dict[str, float]]] = []

    class Noting(Tracker):
        def log(self, values: Any, *, step_name: str, step: float) -> None:
            assert step_name == "epsilon"
            logged.append((step, dict(values)))

    node = stated(ROOT / "conf" / "sweeps" / "wandb" / "ssr_bayes.yaml")
    assert "job=evaluate" in node["command"]
    (file,) = STORED.glob("*/summary.parquet")
    summary = pd.read_parquet(file)
    evaluate._track(summary, Noting())
    with_metric = [
        (step, values[node["metric"]["name"]]) for step, values in logged if node["metric"]["name"] in values
    ]
    wanted = summary[summary.metric == "topk_intersection"]
    assert with_metric == list(zip(wanted.epsilon, wanted["mean"], strict=True))
    assert [step for step, _ in with_metric] == [0, 0.2, 0.4]


@pytest.mark.parametrize("choice", ["+sweeps=wandb/ssr_bayes", "+sweeps/wandb=madry_l2_grid"])
def test_as_a_sweep_of_ours_it_is_refused_before_any_work(run_py, tmp_path: Path, choice: str) -> None:
    code, _, err = run_py("-m", choice, f"outputs={tmp_path / 'outputs'}")
    assert (code, err.count("\n")) == (1, 1)
    assert "sweeps." in err
    assert not list(tmp_path.rglob("*.json"))


def test_a_point_outside_the_range_is_refused(tmp_path: Path) -> None:
    node = stated(ROOT / "conf" / "sweeps" / "wandb" / "ssr_bayes.yaml")
    words = arguments(node, {"defense.alpha": 1.5, "defense.s": 3.0})[3:]
    with pytest.raises(ConfigError, match=r"defense\.alpha=1\.5"):
        Run.of(resolved(composed(*words, f"outputs={tmp_path}")))
