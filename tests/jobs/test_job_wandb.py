"""What each job leaves in an offline W&B run, as docs/wandb.md states it, read back with W&B's own reader."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running import attack_run, do, evaluate_run, train_run

from runner.core.flags import raised

METRICS = ("topk_intersection", "spearman", "kendall", "cosine_distance", "mass_center_shift")
ATTACKED = {f"{kind}/{name}" for kind in ("metric", "undefined") for name in METRICS}


def inspect(folder: Path, identity: str, *options: str) -> str:
    """What W&B's reader says of the only W&B run of this id."""
    (run,) = folder.rglob(f"offline-run-*-{identity}")
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", *options, str(run)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def records(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """(job and id, kind) -> the records of this kind in the only W&B run of that id."""

    def read(identity: str, kind: str) -> list[dict[str, Any]]:
        lines = map(json.loads, inspect(tmp_path, identity).splitlines())
        return [line[kind] for line in lines if line["type"] == kind]

    return read


def curves(records: Callable[..., list[dict[str, Any]]], identity: str, axis: str) -> list[set[str]]:
    """The values of each point on an axis."""
    items = [record["item"] for record in records(identity, "history")]
    return [{name for name in item if name[0] != "_" and name != axis} for item in items if axis in item]


@pytest.mark.pictures
@pytest.mark.usefixtures("no_reports")
def test_the_runs_of_an_evaluation(compose, records, tmp_path: Path) -> None:
    sizes = ("training.epochs=1", "epsilon.stop=0.2")
    config = compose("job=evaluate", "seeds=[0,1]", "sweep=mine", "tracking=wandb_offline", *sizes)
    do(config)
    first = {**config, "seed": 0}
    trained, attacked, evaluated = (
        f"{run.job.name}-{run.identity}" for run in (train_run(first), attack_run(first), evaluate_run(first))
    )
    ends = {"metric/topk_intersection_low", "metric/topk_intersection_high"}
    (epoch,) = curves(records, trained, "epoch")
    assert {"train/loss", "train/test_accuracy", "train/seconds", "train/top_eigenvalue"} <= epoch
    shares = {"attack/unharmed", "attack/label_preserved"}
    near = {"attack/gain_of_last_doubling"}  # of a search, which the first budget, zero, has not
    assert curves(records, attacked, "epsilon") == [ATTACKED | shares, ATTACKED | shares | near]
    zero, last = curves(records, evaluated, "epsilon")
    assert zero >= ATTACKED
    assert ATTACKED | ends <= last
    artifacts = [{record["name"] for record in records(name, "artifact")} for name in (trained, attacked, evaluated)]
    assert artifacts == [
        {f"model-{trained}"},
        {f"rows-{attacked}", f"run-{attacked}-rows"},
        {f"run-{evaluated}-summary"},
    ]
    summary = json.loads(inspect(tmp_path, attacked, "--summary"))["summary"]
    assert summary["gallery"]["_type"] == "image-file"
    assert summary["flags"] == ", ".join(raised(attack_run(first).result()["flags"])) != ""
    (opened,) = records(evaluated, "run")
    assert (opened["job_type"], opened["run_group"]) == ("evaluate", "mine")
    assert opened["display_name"] == evaluate_run(first).folder.name
    assert (attack_run(first).folder / "gallery.png").read_bytes()[:4] == b"\x89PNG"
    before = list(tmp_path.rglob("offline-run-*"))
    assert len(before) == 5
    do(config)
    assert list(tmp_path.rglob("offline-run-*")) == before, "what is finished logs nothing"
    do({**config, "rerun": [evaluate_run(config).identity]})
    assert len(list(tmp_path.rglob(f"offline-run-*-{evaluated}"))) == 2, "a rerun has the same id"
