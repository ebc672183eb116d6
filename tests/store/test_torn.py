"""A torn file of a finished run names the file and a command that makes its run again."""

import json
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from running import attack_run, do
from safetensors.torch import save_file

from runner.core.errors import StoreError
from runner.report.stored_runs import report_on
from runner.store.torn import torn

SMALL = (
    *("job=attack", "dataset=digits", "model=mlp", "tracking=none", "training.epochs=1", "examples=4"),
    *("attack.steps=1", "epsilon.stop=0.1", "threads=1"),
)


OLD = Path(__file__).with_name("store_v1")


def other_result(path: Path) -> None:
    path.write_text(json.dumps({"status": "ok", "job": "attack"}))


def other_table(path: Path) -> None:
    pd.DataFrame({"other": [1]}).to_parquet(path)


def other_tensors(path: Path) -> None:
    save_file({"other": torch.zeros(2)}, path)


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("attacks/*-2ea3cb745962/result.json", other_result),
        ("attacks/*-2ea3cb745962/rows.parquet", other_table),
        ("attacks/*-2ea3cb745962/gallery.safetensors", other_tensors),
        ("models/*-f359e9a00a8f/history.parquet", other_table),
    ],
)
@pytest.mark.parametrize("damage", [half, empty, None])
def test_a_report_on_a_torn_file_is_one_line(tmp_path: Path, name: str, other, damage) -> None:
    outputs = Path(shutil.copytree(OLD, tmp_path / "outputs"))
    (file,) = outputs.glob(name)
    (damage or other)(file)
    with pytest.raises(
        StoreError, match=rf"^{file}: cannot be read \([^\n]+\); to make its run again: [^\n]*$"
    ) as told:
        report_on(outputs.glob("attacks/*-2ea3cb745962"), outputs, "torn")
    assert f"--config-path {file.parent} " in str(told.value)
    assert str(told.value).endswith(f"'rerun=[{file.parent.name.rsplit('-')[-1]}]'")


@pytest.mark.parametrize("config", ["", "{torn", "[1]", "other: 1"])
def test_a_run_whose_config_is_torn_too_is_to_be_removed(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.yaml").write_text(config)
    told = f"cannot be read (why); to make its run again, remove {tmp_path} and repeat the command that made it"
    assert str(torn(tmp_path / "rows.parquet", "why")) == f"{tmp_path}/rows.parquet: {told}"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"cells": [1]}', '{"cells": {"folder": "a"}}'])
def test_a_torn_list_of_cells_is_one_line(run_py, tmp_path: Path, content: str) -> None:
    (tmp_path / "sweeps" / "mine").mkdir(parents=True)
    (file := tmp_path / "sweeps" / "mine" / "cells.json").write_text(content)
    code, _, err = run_py("job=report", f"outputs={tmp_path}", "report.sweep=mine")
    (told,) = (line for line in err.splitlines() if line.startswith("error: "))
    assert (code, told) == (
        2,
        f"error: {file}: cannot be read; the command of the sweep mine, repeated, writes it again",
    )


def test_a_torn_model_is_no_failure_of_its_attack(compose) -> None:
    config = compose("job=evaluate", "seeds=[0,1]", "metrics=[topk_intersection]")
    do({**config, "job": {"name": "train", "_target_": "runner.jobs.train.run"}})
    empty(attack_run(config).inputs[0].folder / "model.safetensors")
    with pytest.raises(
        StoreError, match=r"model.safetensors: cannot be read \(.*; to make its run again: python run.py"
    ):
        do(config)
    assert not (attack_run(config).folder / "result.json").exists()


@pytest.mark.parametrize("garbage", [b"", b"garbage"])
def test_torn_rows_and_models_are_made_again_by_the_command_told(run_py, no_pictures, tmp_path: Path, garbage) -> None:
    small = (*SMALL, f"outputs={tmp_path}")
    assert run_py(*small)[0] == 0
    (rows,), (model,) = tmp_path.glob("attacks/*/rows.parquet"), tmp_path.glob("models/*/model.safetensors")
    for file, line in ((rows, (*small, "job=report", "report.runs=[*-*]")), (model, (*small, "attack_seed=1"))):
        whole = file.read_bytes()
        file.write_bytes(garbage)
        code, _, err = run_py(*line)
        (told,) = (text for text in err.splitlines() if text.startswith("error: "))
        assert (code, told.split(": ")[1]) == (2, str(file))
        words = shlex.split(told.split("to make its run again: ")[1])
        assert words[:2] == ["python", "run.py"]
        assert run_py(*words[2:])[0] == 0
        assert file.read_bytes()[:4] == whole[:4]
