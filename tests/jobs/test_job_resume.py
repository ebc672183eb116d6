"""An attack that is stopped anywhere ends with the rows of one that never was."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from running import attack_run, do

from runner.attacking import memory_fit
from runner.attacking.chunk import Chunk
from runner.jobs import attack
from runner.store import files
from runner.store.files import read_tensors
from runner.store.folder import Folder

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    *("job=attack", "attack=topk", "dataset=digits", "model=mlp", "tracking=none", "threads=1"),
    *("dataset.train_size=200", "dataset.test_size=60", "attack.chunk=4"),
)
STOCHASTIC = ("attribution=smoothgrad", "attribution.samples=4", "attack.restarts=2")
STEPS = 8
"""Two chunks (4 + 2 examples) at four budgets."""


def rows_of(config: Any) -> pd.DataFrame:
    return pd.read_parquet(attack_run(config).folder / "rows.parquet")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("undisturbed")


@pytest.fixture
def undisturbed(compose, elsewhere):
    """(*overrides) -> rows of a run in another store, with nothing to resume from."""

    def run(*overrides: str) -> pd.DataFrame:
        config = {**compose(*overrides), "outputs": str(elsewhere)}
        do(config)
        return rows_of(config)

    return run


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int, *, saved: bool = True) -> list[int]:
    """Interrupt the attack in its step number `steps`, before it or (not saved) between its work and its saving."""
    taken: list[int] = []
    step, save = Chunk.step, Chunk.save

    def counted(self: Chunk, epsilon: float) -> None:
        if saved and len(taken) == steps:
            raise KeyboardInterrupt
        taken.append(1)
        step(self, epsilon)

    def saving(self: Chunk) -> None:
        if not saved and len(taken) == steps:
            raise KeyboardInterrupt
        save(self)

    monkeypatch.setattr(Chunk, "step", counted)
    monkeypatch.setattr(Chunk, "save", saving)
    return taken


def interrupted(monkeypatch: pytest.MonkeyPatch, config: Any, steps: int, **how: Any) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, steps, **how)
        with pytest.raises(KeyboardInterrupt):
            do(config)
    assert Folder(attack_run(config).folder).result() is None


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [((), 3), *((STOCHASTIC, steps) for steps in (0, 1, 4, 6))],
    ids=["saliency-3", *(f"smoothgrad-{steps}" for steps in (0, 1, 4, 6))],
)
def test_stopped_between_any_two_steps(compose, undisturbed, monkeypatch, overrides, steps: int) -> None:
    config = compose(*overrides)
    interrupted(monkeypatch, config, steps)
    taken = stop_after(monkeypatch, 1000)
    do(config)
    assert len(taken) == STEPS - steps
    pd.testing.assert_frame_equal(rows_of(config), undisturbed(*overrides), check_exact=True)
    assert not (attack_run(config).folder / "scratch").exists()


def test_stopped_before_a_step_was_saved(compose, undisturbed, monkeypatch) -> None:
    config = compose(*STOCHASTIC)
    interrupted(monkeypatch, config, 3, saved=False)
    taken = stop_after(monkeypatch, 1000)
    do(config)
    assert len(taken) == STEPS - 2
    pd.testing.assert_frame_equal(rows_of(config), undisturbed(*STOCHASTIC), check_exact=True)


@pytest.mark.parametrize("stopped", [1, 2, 4])
def test_stopped_while_a_budget_is_searched_again(compose, undisturbed, monkeypatch, stopped: int) -> None:
    more = ("attack.converge=0.0001", "attack.converge_cap=4", "attack.steps=2")
    config, again, taken = compose(*more), Chunk.go_on, []

    def stop(self: Chunk, epsilon: float) -> None:
        if len(taken) == stopped:
            raise KeyboardInterrupt
        taken.append(epsilon)
        again(self, epsilon)

    with monkeypatch.context() as patch:
        patch.setattr(Chunk, "go_on", stop)
        with pytest.raises(KeyboardInterrupt):
            do(config)
    do(config)
    pd.testing.assert_frame_equal(rows_of(config), undisturbed(*more), check_exact=True)


@pytest.mark.parametrize("place", ["_write", "write_gallery", "content_of"])
def test_stopped_after_the_last_step(compose, undisturbed, monkeypatch, place: str) -> None:
    config = compose(*STOCHASTIC)

    def stop(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(attack, place, stop)
        with pytest.raises(KeyboardInterrupt):
            do(config)
    assert Folder(attack_run(config).folder).result() is None
    taken = stop_after(monkeypatch, 1000)
    do(config)
    assert taken == []
    pd.testing.assert_frame_equal(rows_of(config), undisturbed(*STOCHASTIC), check_exact=True)


def test_a_torn_state_is_done_again(compose, undisturbed, monkeypatch) -> None:
    config = compose()
    interrupted(monkeypatch, config, 6)
    file = attack_run(config).folder / "scratch" / "chunk-00000.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    taken = stop_after(monkeypatch, 1000)
    do(config)
    assert len(taken) == STEPS - 3  # each of the two chunks had taken three
    pd.testing.assert_frame_equal(rows_of(config), undisturbed(), check_exact=True)


@pytest.mark.parametrize("name", ["plan.json", "gradient.json", "code.json", "chunk-00001.safetensors"])
@pytest.mark.parametrize("content", [b"\xff", b'{"chunk": "all"}'])
def test_any_torn_or_foreign_file_of_the_state_is_made_again(
    compose, undisturbed, monkeypatch, name: str, content: bytes
) -> None:
    config = compose()
    interrupted(monkeypatch, config, 6)
    file = attack_run(config).folder / "scratch" / name
    assert file.is_file()
    file.write_bytes(content)
    do(config)
    pd.testing.assert_frame_equal(rows_of(config), undisturbed(), check_exact=True)


def test_tensors_of_another_shape_are_no_state(compose, undisturbed, monkeypatch, caplog) -> None:
    config = compose()
    interrupted(monkeypatch, config, 6)
    file = attack_run(config).folder / "scratch" / "chunk-00000.safetensors"
    notes = (read_tensors(file) or ({}, {}))[1]
    files.write_tensors(file, {"other": torch.zeros(2)}, notes)
    do(config)
    assert f"{file} cannot be read (it lacks 'best.images')" in caplog.text
    pd.testing.assert_frame_equal(rows_of(config), undisturbed(), check_exact=True)


def test_a_foreign_state_is_not_taken(compose, undisturbed, monkeypatch) -> None:
    config = compose()
    interrupted(monkeypatch, config, 6)
    file = attack_run(config).folder / "scratch" / "chunk-00000.safetensors"
    read = read_tensors(file)
    assert read is not None
    tensors = {**read[0], "best.harm": read[0]["best.harm"] + 9, "0.spearman": read[0]["0.spearman"] - 0.5}
    files.write_tensors(file, tensors, {**read[1], "run_id": "0" * 12})
    do(config)
    pd.testing.assert_frame_equal(rows_of(config), undisturbed(), check_exact=True)


def test_the_chunks_of_the_beginning_are_kept(compose, undisturbed, monkeypatch, caplog) -> None:
    interrupted(monkeypatch, compose("attack.chunk=4"), 5)
    config = compose("attack.chunk=1")
    taken = stop_after(monkeypatch, 1000)
    do(config)
    assert len(taken) == STEPS - 5
    assert "attack.chunk=1: this run was started with 4, which is kept" in caplog.text
    pd.testing.assert_frame_equal(rows_of(config), undisturbed("attack.chunk=4"), check_exact=True)


def test_the_memory_of_the_beginning_counts(compose, undisturbed, monkeypatch) -> None:
    overrides = (*STOCHASTIC, "attack_seed=7")  # no other test has left this run in the undisturbed store
    config = compose(*overrides)
    with monkeypatch.context() as little:
        little.setattr(memory_fit, "_room", lambda device: 0.0)
        rows = undisturbed(*overrides)
        interrupted(little, config, 5)
    do(config)
    pd.testing.assert_frame_equal(rows_of(config), rows, check_exact=True)


def test_images_asked_for_when_resuming(compose, undisturbed, monkeypatch) -> None:
    interrupted(monkeypatch, compose(), 6)
    config = compose("attack.save_images=true")
    do(config)
    stored = read_tensors(attack_run(config).folder / "images.safetensors")
    assert stored is not None
    assert stored[0]["perturbed"].shape == (4, 6, 1, 8, 8)
    pd.testing.assert_frame_equal(rows_of(config), undisturbed(), check_exact=True)


def test_killed_and_called_again(compose, run_py, tmp_path) -> None:
    overrides = [
        *("training.epochs=1", "examples=8", "attribution=smoothgrad", "attribution.samples=4", "attack.steps=20"),
        *("epsilon.stop=0.3", "epsilon.step=0.1"),
    ]
    outputs = tmp_path / "killed"
    line = (*SMALL, "model.widths=[16]", *overrides, f"outputs={outputs}")
    command = [sys.executable, str(ROOT / "run.py"), *line]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not (begun := list(outputs.glob("attacks/*/scratch/chunk-00001.safetensors"))):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    config = {**compose(*overrides), "outputs": str(outputs)}
    assert attack_run(config).folder == begun[0].parents[1]
    assert Folder(attack_run(config).folder).result() is None
    code, _, said = run_py(*line)
    assert code == 0, said
    other = {**config, "outputs": str(tmp_path / "undisturbed")}
    do(other)
    pd.testing.assert_frame_equal(rows_of(config), rows_of(other), check_exact=True)
