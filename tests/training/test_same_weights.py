"""A training gives the same bits whichever training of a process it is, and in every process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from composing import ROOT
from running import do, train_run
from safetensors.torch import load_file

SIZES = ("job=train", "defense=ssr", "training.epochs=1", "training.batch_size=32")
MODELS = {
    "small_cnn": ("model=small_cnn", "dataset.train_size=128"),
    "resnet20": ("model=resnet20", "dataset.train_size=64", "dataset.test_size=20"),
}


@pytest.mark.parametrize("model", ["small_cnn", pytest.param("resnet20", marks=pytest.mark.slow)])
def test_two_trainings_in_one_process_and_one_in_another(compose, tmp_path: Path, model: str) -> None:
    words = (*SIZES, *MODELS[model])
    config, threads = compose(*words), torch.get_num_threads()
    found = []
    try:
        for name in ("first", "second"):
            own = {**config, "outputs": str(tmp_path / name)}
            do(own)
            found.append(load_file(train_run(own).folder / "model.safetensors"))
    finally:
        torch.set_num_threads(threads)
    fresh = {**config, "outputs": str(tmp_path / "fresh")}
    small = ("dataset=digits", "tracking=none", "threads=1", "dataset.test_size=60", f"outputs={tmp_path / 'fresh'}")
    command = [sys.executable, str(ROOT / "run.py"), *small, *words]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    found.append(load_file(train_run(fresh).folder / "model.safetensors"))
    first, *others = found
    assert all(torch.equal(first[name], other[name]) for other in others for name in first)
