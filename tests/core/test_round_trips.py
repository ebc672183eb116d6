"""What is persisted reads back with equal values and types: every file that a training, an attack and an evaluation leave."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from runner.core import store
from runner.core.state import read_state, write_state
from runner.jobs import evaluate, parts, run_job
from runner.jobs.cells import attack_cell
from runner.jobs.chunk import Chunk
from runner.jobs.loop import Loop
from runner.jobs.plan import Plan
from runner.jobs.setup import Setup
from runner.report.load import read_gallery

NOT_DATA = {".png", ".log", ".lock"}


def same(one: Any, two: Any) -> bool:
    """Equal values of equal types, at any depth; two nans are equal."""
    if type(one) is not type(two):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, dict):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two or (isinstance(one, float) and math.isnan(one) and math.isnan(two))


def test_same_is_strict() -> None:
    nan = float("nan")
    assert same({"a": [1, nan, torch.ones(2)]}, {"a": [1, nan, torch.ones(2)]})
    for other in ({"a": 1.0}, {"a": True}, {"b": 1}, {"a": [1]}, {"a": torch.tensor(1)}, {"a": nan}):
        assert not same({"a": 1}, other)
    assert not same(torch.ones(2), torch.ones(2).double())


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> dict[Path, Any]:
    """path -> what was last written there through the store."""
    seen: dict[Path, Any] = {}
    for name in ("write_json", "write_frame", "write_tensors"):
        write = getattr(store, name)

        def noting(path: Path, content: Any, *rest: Any, write: Any = write) -> None:
            seen[path] = (content, *rest)
            write(path, content, *rest)

        monkeypatch.setattr(store, name, noting)
    return seen


def test_every_file_of_a_store(compose, written, monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose("job=evaluate", "seeds=[0,1]", "attack.save_images=true", "metrics=[topk_intersection,ssim,mse]")
    monkeypatch.setattr(evaluate, "write_report", lambda *arguments: None)  # a view of the store, made anew each time
    plan = Plan.of([(config, ["job=evaluate"])])
    plan.record()
    run_job(config)
    outputs = Path(config["outputs"])
    files = {path for path in outputs.rglob("*") if path.is_file() and path.suffix not in NOT_DATA}
    configs = {path for path in files if path.name == "config.yaml"}
    names = {"result.json", "rows.parquet", "images.safetensors", "gallery.safetensors", "model.safetensors"}
    names |= {"history.parquet", "summary.parquet", "areas.parquet", "critical.parquet", "cells.json"}
    assert {path.name for path in files - configs} == names
    assert len(configs) == 5
    for path in files - configs:
        _read_back(path, *written[path])
    for path in configs:
        read = OmegaConf.to_container(OmegaConf.load(path))
        assert same(read, {**config, "seed": read["seed"]}), path


def _read_back(path: Path, content: Any, metadata: dict[str, str] | None = None) -> None:
    if path.suffix == ".json":
        expected = json.loads(json.dumps(content), parse_constant=lambda _: None)  # an infinite range has no JSON
        assert same(json.loads(path.read_text()), expected), path
    elif path.suffix == ".parquet":
        pd.testing.assert_frame_equal(pd.read_parquet(path), content, check_exact=True)
    else:
        read = store.read_tensors(path)
        assert read is not None
        assert same(dict(sorted(read[0].items())), {name: content[name].detach() for name in sorted(content)}), path
        assert read[1] == (metadata or {})


def test_json_keeps_numbers_text_and_null_and_has_null_for_what_it_cannot_say(tmp_path: Path) -> None:
    content = {
        "int": 2**60,
        "float": 0.1 + 0.2,
        "tiny": 5e-324,
        "text": 'é"\n',
        "none": None,
        "true": True,
        "list": [1, 1.0],
    }
    store.write_json(tmp_path / "a.json", content)
    assert same(json.loads((tmp_path / "a.json").read_text()), content)
    store.write_json(tmp_path / "a.json", {"a": [math.inf, -math.inf, {"b": math.nan}], "c": Path("x")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [None, None, {"b": None}], "c": "x"}


def test_frames_keep_every_type(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "whole": np.array([2**53 + 1, -1]),
            "real": [np.nan, np.inf],
            "single": np.array([0.1, -0.0], dtype=np.float32),
            "truth": [True, False],
            "text": ["", "é"],
            "missing": ["a", None],
        }
    )
    store.write_frame(tmp_path / "f.parquet", frame)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "f.parquet"), frame, check_exact=True)
    assert np.signbit(pd.read_parquet(tmp_path / "f.parquet").single[1])


@pytest.mark.parametrize("overrides", [(), ("attack=query_nes", "attack.queries=40"), ("attack.save_images=true",)])
def test_a_chunk_on_its_way(compose, tmp_path: Path, overrides: tuple[str, ...]) -> None:
    config = compose(*overrides)
    run_job({**config, "job": {"name": "train", "_target_": "runner.jobs.train.run"}})
    setup, file = Setup.of(config), tmp_path / "chunk.safetensors"
    one = Chunk.open(setup, torch.arange(3), file)
    for count, epsilon in enumerate(setup.epsilons[:2], start=1):
        one.step(epsilon)
        one.save()
        two = Chunk.open(setup, torch.arange(3), file)
        assert len(two.steps) == count
        for mine, its in zip(one.steps, two.steps, strict=True):
            assert same(dict(sorted(mine.items())), dict(sorted(its.items())))
        assert one.best is not None
        assert two.best is not None
        for name in ("images", "harm", "found"):
            assert same(getattr(one.best, name), getattr(two.best, name)), name
        assert same(dict(sorted(one.best.notes.items())), dict(sorted(two.best.notes.items())))


@pytest.mark.parametrize("overrides", [("training.ema=0.9",), ("training.optimizer=sgd", "defense=free_at")])
def test_the_state_of_a_training(compose, tmp_path: Path, overrides: tuple[str, ...]) -> None:
    config = compose(*overrides)

    def loop(seed: int) -> Loop:
        torch.manual_seed(seed)
        training, defense, model = (parts.part(config, group) for group in ("training", "defense", "model"))
        return Loop(config, training, defense, parts.dataset(config), model, tmp_path / "culprit")

    one, two = loop(0), loop(1)
    history = [one.epoch(0)]
    state = one.state() | {"history": history}
    write_state(tmp_path / "state.pt", state)
    read = read_state(tmp_path / "state.pt")
    assert read is not None
    assert same({**read, "model": dict(read["model"])}, {**state, "model": dict(state["model"])})
    two.restore(read)
    assert same(_plain(two.state()), _plain(one.state()))
    seconds = {"seconds": 0.0}
    assert one.epoch(1) | seconds == two.epoch(1) | seconds


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    return {name: dict(value) for name, value in state.items()}


def test_the_gallery_reads_as_it_was_written(compose) -> None:
    config = compose()
    run_job(config)
    cell = attack_cell(config)
    read = store.read_tensors(cell.folder / "gallery.safetensors")
    assert read is not None
    gallery, about = read_gallery(cell.folder / "gallery.safetensors", cell.columns), json.loads(read[1]["gallery"])
    assert (gallery.group_id, gallery.seed) == (cell.columns["group_id"], 0)
    assert (gallery.epsilon, gallery.norm, gallery.metric, gallery.examples) == tuple(about.values())
    for name, tensor in read[0].items():
        assert getattr(gallery, name).dtype == np.float32
        assert np.array_equal(getattr(gallery, name), tensor.numpy())
