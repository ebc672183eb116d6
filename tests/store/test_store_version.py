"""Stores of version 1, as the first release wrote them (`store_v1`), stay readable; what is newer says so."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from running import do

from runner.attacking.chunk import Chunk
from runner.core.errors import StoreError
from runner.report.load import load
from runner.runs import identity as ids
from runner.runs.run import Run
from runner.store import files, saved_state, version
from runner.store.folder import Folder
from runner.store.saved_state import read_state, write_state
from runner.training.checkpoint import STATE

OLD = Path(__file__).with_name("store_v1")
FINISHED = ("models/digits-mlp-none-s3-f359e9a00a8f", "attacks/digits-mlp-none-saliency-topk-s3-2ea3cb745962")
EVALUATION = "evaluations/digits-mlp-none-saliency-topk-cd6bae61041a"
TRAINING = "models/digits-mlp-none-s4-c380fc49100b"
ATTACKING = "attacks/digits-mlp-none-saliency-topk-s3-e6dfcde3a0e7"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "outputs"))


def config_of(outputs: Path, folder: str, job: str) -> ids.Config:
    """The config that is stored in a folder, for a store that has moved."""
    config: Any = OmegaConf.to_container(OmegaConf.load(outputs / folder / "config.yaml"))
    seed = 3 if "s3" in folder or job == "evaluate" else 4
    return {**config, "outputs": str(outputs), "seed": seed, "job": {"name": job, "_target_": f"runner.jobs.{job}.run"}}


def content(outputs: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(outputs.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(("folder", "job"), [(FINISHED[0], "train"), (FINISHED[1], "attack"), (EVALUATION, "evaluate")])
def test_a_finished_run_is_found_by_its_stored_config_and_taken_as_it_is(old: Path, folder: str, job: str) -> None:
    config, before = config_of(old, folder, job), content(old)
    assert Run.of(config).folder == old / folder
    assert do(config) == json.loads((OLD / folder / "result.json").read_text())
    assert content(old) == before


def test_the_report_reads_it(old: Path) -> None:
    data = load([old / FINISHED[1]], old / "models")
    row = data.rows.iloc[5]
    assert (row.example_id, row.epsilon, row.label, row.clean_prediction) == (123, 0.2, 1, 3)
    assert (row.perturbation_norm, row.spearman) == (0.16352145194330422, 0.3994505494505495)
    assert (bool(row.clean_correct), bool(row.label_preserved)) == (False, True)
    assert (data.failures, data.notes, list(data.metrics)) == ([], [], ["topk_intersection", "spearman", "ssim"])
    assert data.history.loss.iloc[-1] == 2.4544527530670166
    (gallery,) = data.galleries.values()
    assert [item["example_id"] for item in gallery.examples] == [123, 327, 163]
    assert gallery.images.shape == (3, 1, 8, 8)


def test_an_interrupted_training_goes_on(old: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = read_state(old / TRAINING / "scratch" / STATE)
    assert state is not None
    with caplog.at_level(logging.INFO):
        result = do(config_of(old, TRAINING, "train"))
    assert "resuming after epoch 1" in caplog.text
    assert result["epochs"] == 2
    history = pd.read_parquet(old / TRAINING / "history.parquet")
    assert history.iloc[0].to_dict() == state["history"][0]


def test_an_interrupted_attack_goes_on(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = files.read_tensors(old / ATTACKING / "scratch" / "chunk-00000.safetensors")
    assert saved is not None
    assert saved[1] == {"run_id": "e6dfcde3a0e7", "steps": "2"}
    done: list[float] = []
    step = Chunk.step
    monkeypatch.setattr(Chunk, "step", lambda self, epsilon: (done.append(epsilon), step(self, epsilon)))
    do(config_of(old, ATTACKING, "attack"))
    assert done == [0, 0.2, 0.4, 0.4]  # the other chunk catches up first
    rows = pd.read_parquet(old / ATTACKING / "rows.parquet")
    first = rows[rows.epsilon == 0.2].spearman.to_numpy()[:2]
    assert first.tolist() == saved[0]["1.spearman"].tolist()


def test_a_result_without_a_version_is_of_version_1(old: Path) -> None:
    file = old / FINISHED[0] / "result.json"
    result = json.loads(file.read_text())
    assert result.pop("store_version") == 1
    file.write_text(json.dumps(result))
    assert Folder(file.parent).finished() == result


@pytest.mark.parametrize("stated", [2, 10, "2", 1.5, "next", -1])
def test_a_newer_result_says_so(tmp_path: Path, stated: object) -> None:
    file = tmp_path / "result.json"
    file.write_text(json.dumps({"status": "ok", "store_version": stated}))
    with pytest.raises(StoreError) as refused:
        Folder(tmp_path).finished()
    assert str(refused.value) == (
        f"{file}: made by a newer version of the store, {stated}; this code reads up to {version.VERSION}"
    )


def test_a_newer_state_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writers = (files, saved_state)
    for writer in writers:
        monkeypatch.setattr(writer, "VERSION", 2)
    monkeypatch.setattr(version, "VERSION", 2)
    files.write_tensors(tmp_path / "t.safetensors", {"a": torch.zeros(1)}, {"steps": "2"})
    write_state(tmp_path / "t.pt", {"a": torch.zeros(1)})
    assert files.read_tensors(tmp_path / "t.safetensors") == ({"a": torch.zeros(1)}, {"steps": "2"})
    assert read_state(tmp_path / "t.pt") == {"a": torch.zeros(1)}
    monkeypatch.setattr(version, "VERSION", 1)
    for read, name in ((files.read_tensors, "t.safetensors"), (read_state, "t.pt")):
        with pytest.raises(StoreError, match=rf"{name}: made by a newer version of the store, 2; this code reads up"):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "command"),
    [(f"{FINISHED[1]}/result.json", f"report.runs=[{FINISHED[1]}]"), ("sweeps/old/cells.json", "report.sweep=old")],
)
def test_the_command_line_says_so_in_one_line(run_py, old: Path, name: str, command: str) -> None:
    file = old / name
    file.write_text(json.dumps({**json.loads(file.read_text()), "store_version": 7}))
    code, _, err = run_py("job=report", command, f"outputs={old}")
    assert (code, err) == (2, f"error: {file}: made by a newer version of the store, 7; this code reads up to 1\n")
