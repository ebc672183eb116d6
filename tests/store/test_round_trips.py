"""What is persisted reads back with equal values and types: every file that a training, an attack and an evaluation leave."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from equality import same
from omegaconf import OmegaConf
from running import as_job, do, plan_of

from runner.store import files, folder
from runner.sweeps import plan

NOT_DATA = {".png", ".log", ".lock"}


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
    writers = {"write_json": (files, folder, plan), "write_frame": (files,), "write_tensors": (files,)}
    for name, users in writers.items():
        write = getattr(files, name)

        def noting(path: Path, content: Any, *rest: Any, write: Any = write) -> None:
            seen[path] = (content, *rest)
            write(path, content, *rest)

        for user in users:
            monkeypatch.setattr(user, name, noting)
    return seen


@pytest.mark.usefixtures("no_reports")
def test_every_file_of_a_store(compose, written) -> None:
    config = compose("job=evaluate", "seeds=[0,1]", "attack.save_images=true", "metrics=[topk_intersection,ssim,mse]")
    plan_of(config).record()
    do(config)
    outputs = Path(config["outputs"])
    kept = {path for path in outputs.rglob("*") if path.is_file() and path.suffix not in NOT_DATA}
    configs = {path for path in kept if path.name == "config.yaml"}
    names = {"result.json", "rows.parquet", "images.safetensors", "gallery.safetensors", "model.safetensors"}
    names |= {"history.parquet", "summary.parquet", "areas.parquet", "critical.parquet", "cells.json"}
    assert {path.name for path in kept - configs} == names
    assert len(configs) == 5
    for path in kept - configs:
        _read_back(path, *written[path])
    for path in configs:
        read = OmegaConf.to_container(OmegaConf.load(path))
        job = {"models": "train", "attacks": "attack", "evaluations": "evaluate"}[path.parents[1].name]
        assert same(read, {**as_job(config, job), "seed": read["seed"]}), path


def _read_back(path: Path, content: Any, metadata: dict[str, str] | None = None) -> None:
    if path.suffix == ".json":
        expected = json.loads(json.dumps(content), parse_constant=lambda _: None)  # an infinite range has no JSON
        assert same(json.loads(path.read_text()), expected), path
    elif path.suffix == ".parquet":
        pd.testing.assert_frame_equal(pd.read_parquet(path), content, check_exact=True)
    else:
        read = files.read_tensors(path)
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
    files.write_json(tmp_path / "a.json", content)
    assert same(json.loads((tmp_path / "a.json").read_text()), content)
    files.write_json(tmp_path / "a.json", {"a": [math.inf, -math.inf, {"b": math.nan}], "c": Path("x")})
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
    files.write_frame(tmp_path / "f.parquet", frame)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "f.parquet"), frame, check_exact=True)
    assert np.signbit(pd.read_parquet(tmp_path / "f.parquet").single[1])
