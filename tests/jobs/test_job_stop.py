"""A job that is told to stop saves its state, and ends later with the bits of one that never was."""

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
from composing import ROOT
from running import as_job, attack_run, do, train_run
from safetensors.torch import load_file

from runner.attacking.chunk import Chunk
from runner.core import signals
from runner.core.config import Config
from runner.store.folder import Folder
from runner.training.trainer import Trainer

STEPS = 8
"""Of the attack: two chunks (4 + 2 examples) at four budgets."""
BATCHES = 7
"""Of an epoch: 200 examples, 32 at once."""


def signal_in(patch: pytest.MonkeyPatch, owner: type, method: str, calls: int) -> list[int]:
    """Count the calls of a method from here on, and send SIGTERM in the middle of call number `calls`."""
    taken, real = list[int](), getattr(owner, method)

    def counted(self: Any, *arguments: Any, **named: Any) -> Any:
        taken.append(1)
        if len(taken) == calls:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, *arguments, **named)

    patch.setattr(owner, method, counted)
    return taken


def stopped(config: Config, owner: type, method: str, calls: int) -> int:
    """Run until the signal. Returns the calls that were made."""
    with pytest.MonkeyPatch.context() as patch:
        taken = signal_in(patch, owner, method, calls)
        with signals.listening(), pytest.raises(signals.StopRequested):
            do(config)
    return len(taken)


def rest(config: Config, owner: type, method: str) -> int:
    """Run to the end. Returns the calls that were left."""
    with pytest.MonkeyPatch.context() as patch:
        taken = signal_in(patch, owner, method, -1)
        assert do(config)["status"] == "ok"
    return len(taken)


def rows_of(config: Config) -> pd.DataFrame:
    return pd.read_parquet(attack_run(config).folder / "rows.parquet")


def elsewhere(config: Config, tmp_path: Path) -> Config:
    other = {**config, "outputs": str(tmp_path / "undisturbed")}
    do(other)
    return other


@pytest.mark.parametrize("step", [1, 4, STEPS])
def test_an_attack_finishes_its_step(compose, tmp_path, step: int) -> None:
    config = compose("attribution=smoothgrad", "attribution.samples=4")
    do(as_job(config, "train"))
    assert stopped(config, Chunk, "step", step) == step
    assert Folder(attack_run(config).folder).result() is None
    assert rest(config, Chunk, "step") == STEPS - step
    pd.testing.assert_frame_equal(rows_of(config), rows_of(elsewhere(config, tmp_path)), check_exact=True)


def test_an_attack_whose_training_is_stopped(compose, tmp_path) -> None:
    config = compose()
    assert stopped(config, Trainer, "_step", 3) == 3
    assert Folder(train_run(config).folder).result() is None
    assert rest(config, Chunk, "step") == STEPS
    pd.testing.assert_frame_equal(rows_of(config), rows_of(elsewhere(config, tmp_path)), check_exact=True)


TRAININGS = {
    "adam": ["training.augment=true", "dataset.augmentation={flip:true,pad:1}", "training.schedule=cosine"],
    "average": ["training.ema=0.9", "training.optimizer=sgd", "training.learning_rate=0.1"],
    "batch_norm": ["model=resnet20", "dataset.test_size=20", "training.schedule=one_cycle"],
    "free_at": ["defense=free_at"],
    "spectral_norm": ["defense=spectral_norm"],
    "ssr": ["defense=ssr"],
}


@pytest.mark.parametrize(
    ("kind", "batch"),
    [*((kind, BATCHES + 3) for kind in TRAININGS), ("adam", 1), ("free_at", BATCHES)],
)
def test_a_training_finishes_its_batch(compose, tmp_path, monkeypatch, kind: str, batch: int) -> None:
    config = compose("job=train", "training.batch_size=32", *TRAININGS[kind])
    real = Trainer._steps

    def noisy(self: Trainer, batch: Any) -> dict[str, torch.Tensor]:
        """A step whose scalars, and so the history, tell where torch's own random numbers stand (dropout draws them)."""
        return {**real(self, batch), "noise": torch.rand(())}

    monkeypatch.setattr(Trainer, "_steps", noisy)
    assert stopped(config, Trainer, "_batch", batch) == batch
    assert Folder(train_run(config).folder).result() is None
    assert rest(config, Trainer, "_batch") == 2 * BATCHES - batch
    other = elsewhere(config, tmp_path)
    one, two = (train_run(each).folder for each in (config, other))
    weights, same = load_file(one / "model.safetensors"), load_file(two / "model.safetensors")
    assert weights.keys() == same.keys()
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    histories = [pd.read_parquet(folder / "history.parquet").drop(columns="seconds") for folder in (one, two)]
    pd.testing.assert_frame_equal(*histories, check_exact=True)


SLOW = (
    *("job=attack", "attack=topk", "dataset=digits", "model=mlp", "tracking=none", "threads=1", "model.widths=[16]"),
    *("dataset.train_size=200", "dataset.test_size=60", "training.epochs=1", "metrics=[topk_intersection]"),
    *("attribution=smoothgrad", "attribution.samples=4", "attack.steps=20", "attack.chunk=2", "epsilon.step=0.1"),
)


def begin(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "run.py"), *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def wait_for(process: subprocess.Popen[str], outputs: Path, pattern: str) -> None:
    deadline = time.monotonic() + 60
    while not list(outputs.glob(pattern)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_run_py_says_how_to_go_on(compose, tmp_path) -> None:
    line = (*SLOW, "examples=6", "epsilon.stop=0.4", f"outputs={tmp_path}")
    with begin(*line) as process:
        wait_for(process, tmp_path, "attacks/*/scratch/chunk-00001.safetensors")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
        assert process.stderr is not None
        told = process.stderr.read().splitlines()
    assert told[-1] == "stopped by SIGTERM, its state is saved: the same command resumes where it stopped"
    config = {**compose(*line[:-1]), "outputs": str(tmp_path)}
    assert Folder(attack_run(config).folder).result() is None
    assert 1 <= rest(config, Chunk, "step") <= 15 - 2
    pd.testing.assert_frame_equal(rows_of(config), rows_of(elsewhere(config, tmp_path)), check_exact=True)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_local_sweep_stops_with_its_workers_and_goes_on(compose, tmp_path) -> None:
    line = ("-m", *SLOW, "seed=0,1", "examples=4", "epsilon.stop=0.3", "sweep=stopped", "hydra.launcher.processes=2")
    with begin(*line, f"outputs={tmp_path / 'stopped'}") as process:
        wait_for(process, tmp_path, "stopped/attacks/*/scratch/chunk-00000.safetensors")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
        assert process.stderr is not None
        assert "the same command resumes where it stopped" in process.stderr.read()
    assert list(tmp_path.glob("stopped/attacks/*/scratch/chunk-*.safetensors"))
    with begin(*line, f"outputs={tmp_path / 'stopped'}") as process:
        assert process.wait(120) == 0
    for seed in (0, 1):
        config = compose(*SLOW, f"seed={seed}", "examples=4", "epsilon.stop=0.3") | {
            "outputs": str(tmp_path / "stopped")
        }
        pd.testing.assert_frame_equal(rows_of(config), rows_of(elsewhere(config, tmp_path)), check_exact=True)
        for run in (train_run(config), attack_run(config)):
            assert (run.folder / "run.log").read_text().count(f"{run.job.name} is done") == 1
