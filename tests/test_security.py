"""Nothing that is loaded runs code, no path of a config leaves the store, and no secret of the environment gets out."""

import ast
import io
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from composing import ROOT
from pyarrow import ArrowInvalid
from running import as_job, do, train_run

from runner.core import secrets
from runner.core.errors import ConfigError, StoreError
from runner.models.weights import read_state as read_weights
from runner.report.load import read_gallery
from runner.report.stored_runs import report_on
from runner.store import files
from runner.store.folder import Folder, inside
from runner.store.saved_state import read_state
from runner.training.checkpoint import STATE

# ---- loading runs no code


class Payload:
    """What an attacker puts into a pickle: loading it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def as_pickle(payload: Payload) -> bytes:
    return pickle.dumps({"model": torch.zeros(2), "state_dict": payload}, protocol=2)


def as_torch_file(payload: Payload) -> bytes:
    file = io.BytesIO()
    torch.save({"model": {"weight": torch.zeros(2)}, "history": [payload]}, file)
    return file.getvalue()


def as_old_torch_file(payload: Payload) -> bytes:
    file = io.BytesIO()
    torch.save({"model": {"weight": torch.zeros(2)}, "x": payload}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def as_older_torch_file(payload: Payload) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:") as tar:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            content = as_pickle(payload)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


FORMS = (as_pickle, as_torch_file, as_old_torch_file, as_older_torch_file)


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """The file that must not come to be."""
    yield tmp_path / "the payload ran"
    assert not (tmp_path / "the payload ran").exists()


def test_the_payloads_are_real(tmp_path: Path) -> None:
    for number, form in enumerate((as_pickle, as_torch_file, as_old_torch_file)):
        payload = Payload(tmp_path / f"ran {number}")
        load = pickle.loads if form is as_pickle else lambda text: torch.load(io.BytesIO(text), weights_only=False)
        load(form(payload))
        assert payload.mark.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".ckpt", ".bin"])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_weights_with_code_are_refused(tmp_path: Path, mark: Path, form: Callable[..., bytes], suffix: str) -> None:
    file = tmp_path / f"model{suffix}"
    file.write_bytes(form(Payload(mark)))
    with pytest.raises(ConfigError, match=r"cannot be loaded \("):
        read_weights(file)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_states_with_code_count_as_damaged(tmp_path: Path, mark: Path, form: Callable[..., bytes], caplog) -> None:
    file = tmp_path / "state"
    file.write_bytes(form(Payload(mark)))
    assert read_state(file) is None
    assert files.read_tensors(file) is None
    assert caplog.text.count("its work starts from the beginning") == 2
    with pytest.raises(StoreError, match="not a gallery"):
        read_gallery(file, {"group_id": "x", "seed": 0})
    with pytest.raises(ArrowInvalid):
        pd.read_parquet(file)
    shutil.copy(file, tmp_path / "result.json")
    assert Folder(tmp_path).result() is None


def test_a_training_whose_state_was_replaced_begins_again(compose, mark: Path, caplog) -> None:
    config = compose("job=train")
    folder = train_run(config).folder
    files.write_text(folder / "scratch" / STATE, "")
    (folder / "scratch" / STATE).write_bytes(as_torch_file(Payload(mark)))
    assert do(config)["epochs"] == 2
    assert "it is damaged, or would run code when loaded" in caplog.text
    (folder / "model.safetensors").write_bytes(as_torch_file(Payload(mark)))
    with pytest.raises(StoreError, match=r"model\.safetensors: cannot be read"):
        do(as_job(config, "attack"))


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_no_code_of_ours_loads_by_pickle() -> None:
    """The exception: copies of what this process has just composed."""
    loads: set[tuple[str, str]] = set()
    torch_loads = 0
    for path in (ROOT / "runner").rglob("*.py"):
        for name, call in calls(ast.parse(path.read_text())):
            if name == "torch.load":
                torch_loads += 1
                assert {item.arg: ast.unparse(item.value) for item in call.keywords}["weights_only"] == "True", path
            if name.split(".")[0] in ("pickle", "cloudpickle", "joblib", "marshal", "shelve"):
                loads.add((path.name, name))
            assert name not in ("eval", "exec", "np.load", "yaml.load", "yaml.unsafe_load"), path
    assert torch_loads == 1
    assert loads == {("loader.py", "pickle.dumps")}
    assert "pickle.loads" in (ROOT / "runner/sweeps/composition/loader.py").read_text()


# ---- paths stay in the store


ESCAPES = ["../../escaped", "/escaped", "..", "a/../../../escaped", "~/escaped", "x\0y"]


def tree(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


@pytest.mark.parametrize("name", ESCAPES)
def test_names_of_options_make_no_path(compose, tmp_path: Path, name: str) -> None:
    config = compose("job=train", "training.epochs=0", "model.weights=random")
    for group in ("dataset", "model", "defense"):
        config[group]["name"] = name
    do(config)
    outside = {path for path in tree(tmp_path) if path.parts[0] != "outputs"}
    assert outside == set()
    made = {path for path in tree(tmp_path) if path.name == "result.json"}
    assert [len(path.parts) for path in made] == [4]
    assert not Path("/escaped").exists()


@pytest.mark.parametrize("name", ESCAPES)
def test_names_of_sweeps_are_refused_before_anything_is_made(compose, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="^sweep="):
        do(compose("job=train") | {"sweep": name})
    with pytest.raises(ConfigError, match=r"^report\.sweep=.*: must be a sweep that was run"):
        do(compose("job=report") | {"report": {"sweep": name, "runs": None, "name": None}})
    assert {path for path in tree(tmp_path) if path != Path("outputs")} == set()


@pytest.mark.parametrize("name", ESCAPES)
def test_the_name_of_a_report_makes_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    made: list[Path] = []
    monkeypatch.setattr("runner.report.build.build_report", lambda attacks, models, folder, *rest: made.append(folder))
    failed = [{"job": "attack", "error": "x"}]
    report_on([], tmp_path / "outputs", name, failed)
    assert [folder.parent for folder in made] == [tmp_path / "outputs" / "reports"]
    assert made[0].name.strip(".") != ""


@pytest.mark.parametrize("named", ["../elsewhere", "/etc", "attacks/../../x"])
def test_a_file_of_the_store_cannot_lead_out_of_it(compose, tmp_path: Path, named: str) -> None:
    outputs = tmp_path / "outputs"
    with pytest.raises(StoreError, match="which is not in it"):
        inside(outputs, named)
    files.write_json(outputs / "sweeps" / "mine" / "cells.json", {"cells": [{"job": "attack", "folder": named}]})
    with pytest.raises(StoreError, match="which is not in it"):
        do(compose("job=report") | {"report": {"sweep": "mine", "runs": None, "name": None}})
    Folder(outputs / "evaluations" / "e").record("ok", {"job": "evaluate", "seconds": 1.0, "runs": [named]})
    with pytest.raises(StoreError, match="which is not in it"):
        report_on([outputs / "evaluations" / "e"], outputs, "x")


def test_a_link_in_place_of_a_file_is_replaced_not_written_through(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "run"
    outside.write_text("mine")
    folder.mkdir()
    (folder / "result.json").symlink_to(outside)
    Folder(folder).record("ok", {})
    assert outside.read_text() == "mine"
    assert not (folder / "result.json").is_symlink()


# ---- secrets stay in the environment


SECRETS = {
    "WANDB_API_KEY": "f" * 8 + "0123456789abcdef" * 2,
    "AWS_SECRET_ACCESS_KEY": "Sentinel/aws+0123456789",
    "HF_TOKEN": "hf_Sentinel0123456789",
    "DB_PASSWORD": 'Sentinel"quoted\\0123456789',
    "ssh_credentials": "Sentinel-lower-0123456789",
}
SMALL = (
    *("job=attack", "dataset=digits", "model=mlp", "model.widths=[8]", "training.epochs=1", "dataset.train_size=100"),
    *("dataset.test_size=40", "examples=4", "attack.steps=2", "epsilon.stop=0.2", "tracking=wandb_offline"),
)
FAILING = """
import os, runpy, sys
from runner.jobs import attack
class Chunk(attack.Chunk):
    def step(self, epsilon):
        raise OSError("401 for " + ", ".join(os.environ[name] for name in {names!r}))
attack.Chunk = Chunk
sys.argv = ["run.py", *sys.argv[1:]]
runpy.run_path({program!r}, run_name="__main__")
"""


def ran(tmp_path: Path, *command: Any) -> int:
    """Run with secrets in the environment, everything that is said kept in files. Returns the exit code."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment = clean | SECRETS | {"HOME": str(tmp_path / "home"), "OUTPUTS": str(tmp_path / "outputs")}
    with open(tmp_path / "stdout", "ab") as out, open(tmp_path / "stderr", "ab") as err:
        return subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, stdout=out, stderr=err, timeout=120, check=False
        ).returncode


def found_in(tmp_path: Path) -> list[Path]:
    wanted = [form for value in SECRETS.values() for form in (value.encode(), repr(value)[1:-1].encode())]
    wanted += [value.replace("\\", "\\\\").replace('"', '\\"').encode() for value in SECRETS.values()]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    return [path for path in files if any(value in path.read_bytes() for value in wanted)]


@pytest.mark.parametrize("flags", [("--cfg", "all"), ("--cfg", "job", "--resolve"), ("--info", "all"), ("--help",)])
def test_no_secret_is_shown_by_hydra(run_py, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    code, out, err = run_py(*SMALL, *flags)
    assert code == 0
    assert len(out + err) > 1000
    assert [name for name, value in SECRETS.items() if value in out + err] == []


def test_no_secret_reaches_a_file_or_the_terminal(tmp_path: Path) -> None:
    assert ran(tmp_path, ROOT / "run.py", *SMALL, "tracking.save_code=true", "tracking.system_metrics=true") == 0
    names = {path.name for path in (tmp_path / "outputs").rglob("*") if path.is_file()}
    assert names >= {"rows.parquet", "result.json", "config.yaml", "run.log"}
    assert len(list((tmp_path / "outputs").rglob("*.wandb"))) == 2
    assert found_in(tmp_path) == []
    (tmp_path / "check").write_text(SECRETS["HF_TOKEN"])
    assert found_in(tmp_path) == [tmp_path / "check"]


def test_an_error_that_quotes_a_secret_hides_it(tmp_path: Path) -> None:
    script = FAILING.format(names=list(SECRETS), program=str(ROOT / "run.py"))
    assert ran(tmp_path, "-c", script, *SMALL) == 1
    (result,) = (tmp_path / "outputs" / "attacks").glob("*/result.json")
    told = Folder(result.parent).result() or {}
    assert told["status"] == "failed"
    assert told["error"] == "OSError: 401 for " + ", ".join(f"<{name}>" for name in SECRETS)
    assert told["error"] in told["traceback"]
    assert "OSError: 401 for <WANDB_API_KEY>, " in (tmp_path / "stderr").read_text()
    assert found_in(tmp_path) == []


def test_what_is_hidden_and_what_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if secrets.hidden(os.environ[name]) != os.environ[name]]:
        monkeypatch.delenv(name)
    for name, value in {"MY_API_KEY": "abcdefgh", "KEYBOARD": "querty-layout", "SHORT_TOKEN": "abc"}.items():
        monkeypatch.setenv(name, value)
    assert secrets.hidden("xabcdefghx abc querty-layout") == "x<MY_API_KEY>x abc querty-layout"
