"""Sweeps on a real SLURM that nobody disturbs: arrays, packs, dependencies, failures, detached calls, the code of a queued job."""

import shutil
import time
from pathlib import Path

import pandas as pd
import pytest
from composing import ROOT
from running import attack_run, train_run
from small_cluster import until

from runner.store.folder import Folder

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]


def test_24_cells_in_packs_two_tasks_at_once_after_their_trainings(sweep, monkeypatch) -> None:
    made = sweep(3, 8, "attack.pause=0.2", "hydra.launcher.pack=4", "hydra.launcher.array_parallelism=2")
    process, seen = made.begin(), set[int]()
    while process.poll() is None:
        seen.add(len(made.cluster.jobs("-t", "running")))
        time.sleep(0.5)
    assert process.returncode == 0, made.log
    assert max(seen) == 2
    made.check(monkeypatch)
    assert len(made.steps) == 24 * 2 * 2

    history = made.history()
    assert set(history.state) == {"COMPLETED"}
    trainings, attacks = history[~history.job.str.contains("_")], history[history.job.str.contains("_")]
    assert (len(trainings), len(attacks)) == (1, 6)
    assert attacks.start.astype(int).min() >= trainings.end.astype(int).max()
    assert made.log.count("report: ") == 1

    assert made.end(made.begin()) == 0
    assert "24 cells, 0 runs to do" in made.log
    assert len(made.submissions()) == 1


def test_a_failed_training_takes_along_its_own_attacks_only(sweep, monkeypatch) -> None:
    made = sweep(2, 2, "hydra.launcher.pack=2")
    obstacle = train_run(made.configs[0]).folder / "model.safetensors"
    obstacle.mkdir(parents=True)
    assert made.end(made.begin()) == 1
    failed, fine = made.configs[:2], made.configs[2:]
    model = obstacle.parent.name
    assert "IsADirectoryError" in str((Folder(obstacle.parent).result() or {})["error"])
    assert made.log.count(f"its input failed: {model}") == 2
    assert "error: 3 of 6 runs failed; to rerun them: " in made.log
    assert all(Folder(attack_run(config).folder).finished() for config in fine)
    assert not any(Folder(attack_run(config).folder).finished() for config in failed)
    assert made.history().state.tolist() == ["FAILED", "FAILED", "COMPLETED"]

    obstacle.rmdir()
    assert made.end(made.begin("rerun=failed")) == 0, made.log
    made.check(monkeypatch)


def test_detached_found_again_and_run_by_the_code_it_was_submitted_with(sweep, monkeypatch, tmp_path: Path) -> None:
    project = tmp_path / "a project"
    for name in ("runner", "conf"):
        shutil.copytree(ROOT / name, project / name, symlinks=True)
    script = Path(shutil.copy(ROOT / "run.py", project / "run.py"))
    made = sweep(1, 2, "hydra.launcher.pack=2")
    block = made.cluster.blocked()
    assert made.end(made.begin("hydra.launcher.detach=true", script=script)) == 0, made.log
    (told,) = made.submissions()
    assert [array["after"] for array in told["arrays"]] == [[], [told["arrays"][0]["job"]]]
    folders = [folder for array in told["arrays"] for task in array["tasks"] for folder in task["folders"]]
    assert sorted(folders) == sorted(
        {str(cell(config).folder) for config in made.configs for cell in (train_run, attack_run)}
    )
    assert "hydra.launcher.detach=true" in told["command"]

    attack = project / "runner" / "attacks" / "random.py"
    attack.write_text(attack.read_text().replace("problem.images + noise", "problem.images - noise"))
    again = made.begin(script=script)
    until(lambda: made.log.count("runs to do") == 2, "the second call has planned")
    made.cluster.call("scancel", block)
    assert made.end(again) == 0, made.log
    assert len(made.submissions()) == 1
    made.check(monkeypatch)


def test_a_queued_task_refuses_other_code(sweep) -> None:
    made = sweep(1, 1)
    block = made.cluster.blocked()
    process = made.begin()
    until(lambda: len(made.submissions()) == 1 and len(made.cluster.jobs()) == 3, "both jobs are queued")
    (copy,) = (path for path in (made.folder / "outputs" / "sweeps" / "tiny" / "code").iterdir() if path.is_dir())
    trainer = copy / "runner" / "training" / "trainer.py"
    trainer.write_text(trainer.read_text() + "# drifted\n")
    made.cluster.call("scancel", block)
    assert made.end(process) == 1
    assert made.log.count("the code has changed since it was submitted") >= 2
    assert made.steps == []
    assert not list((made.folder / "outputs").glob("models/*/model.safetensors"))
    assert not list((made.folder / "outputs").glob("attacks/*/result.json"))


def test_rows_are_compared_in_earnest(sweep, monkeypatch) -> None:
    """What `check` says of a sweep with a row that is one unit in the last place away, and of a step that was done twice."""
    made = sweep(1, 1)
    assert made.end(made.begin()) == 0, made.log
    made.check(monkeypatch)
    file = attack_run(made.configs[0]).folder / "rows.parquet"
    rows = pd.read_parquet(file)
    changed = rows.assign(attack_harm=rows.attack_harm + 1e-15)
    changed.to_parquet(file, index=False)
    with pytest.raises(AssertionError, match="attack_harm"):
        made.check(monkeypatch)
    rows.to_parquet(file, index=False)
    (made.folder / "counted").write_text("\n".join([*made.steps, made.steps[0]]))
    with pytest.raises(AssertionError):
        made.check(monkeypatch)
