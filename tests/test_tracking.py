import functools
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from PIL import Image

from runner.core.errors import ConfigError
from runner.runs.provenance import provenance
from runner.tracking import track
from runner.tracking.settings import TrackingSettings

ROOT = Path(__file__).resolve().parents[1]
SECRET = "f" * 8 + "0123456789abcdef" * 2
EPSILONS = [index / 10 for index in range(11)]
CONFIG = {"dataset": {"name": "mnist5k"}, "epsilon": {"norm": "l2", "values": [float("inf"), 0.3]}}
ROWS = pd.DataFrame(
    {
        "example_id": range(50),
        "epsilon": np.linspace(0, 1, 50),
        "label_preserved": [True] * 50,
        "attack": ["topk"] * 49 + [None],
        "spearman": [np.nan] + [0.5] * 49,
    }
)


@pytest.fixture(autouse=True)
def _no_wandb_variables(monkeypatch):
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)


def open_track(folder, settings=None, **changes):
    request = {"job": "attack", "identity": "0123456789ab", "name": "mnist5k-topk", "group": "quickstart"}
    request |= {"config": CONFIG, "provenance": {"host": "here"}, "folder": folder}
    return track({"mode": "offline", "dir": None} | (settings or {}), **(request | changes))


def warnings_of(caplog):
    return [record.message for record in caplog.records if record.name.startswith("runner")]


def runs(folder):
    return sorted((folder / "wandb").glob("offline-run-*"))


@functools.cache
def inspect(run, *options):
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", *options, str(run)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def records(run, kind):
    return [line[kind] for line in map(json.loads, inspect(run).splitlines()) if line["type"] == kind]


def points(run, key):
    items = [record["item"] for record in records(run, "history")]
    return [(item["epsilon"], item[key]) for item in items if key in item]


# ---- one whole run, read back by W&B's own reader


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job 'with' a space")
    picture, rows = folder / "gallery.png", folder / "rows.parquet"
    Image.new("RGB", (4, 4), "red").save(picture)
    ROWS.to_parquet(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_API_KEY", SECRET)
        patch.setenv("HOME", str(folder / "home"))
        environment = dict(os.environ)
        with open_track(folder, {"tags": ["a b"], "max_table_rows": 20}, provenance=provenance()) as tracker:
            for epsilon in EPSILONS:
                tracker.log({"metric/topk_intersection": 1 - epsilon}, step_name="epsilon", step=epsilon)
            tracker.log({"train/loss": 0.25}, step_name="epoch", step=3)
            tracker.summary({"test_accuracy": 0.97, "dataset": "mnist5k"})
            tracker.table("rows", ROWS)
            tracker.image("gallery", picture, caption="worst")
            tracker.artifact("rows", "rows", [rows], {"examples": 50})
        assert not tracker.broken
        assert dict(os.environ) == environment
    (run,) = runs(folder)
    return folder, run


@pytest.fixture(scope="module")
def summary(whole):
    return json.loads(inspect(whole[1], "--summary"))


def test_identity_of_the_run(whole, summary):
    record = records(whole[1], "run")[0]
    assert record["run_id"] == "attack-0123456789ab"
    assert (record["job_type"], record["run_group"]) == ("attack", "quickstart")
    assert record["project"] == "attribution-robustness"
    assert (summary["name"], summary["tags"]) == ("mnist5k-topk", ["a b"])
    assert (summary["state"], summary["exit_code"]) == ("finished", 0)


def test_config_and_provenance_are_in_the_config(summary):
    config = summary["config"]
    assert config["dataset"] == {"name": "mnist5k"}
    assert config["epsilon"] == {"norm": "l2", "values": ["Infinity", 0.3]}
    assert config["provenance"]["versions"]["wandb"] == provenance()["versions"]["wandb"]


def test_curves_are_drawn_against_their_own_axes(whole):
    assert points(whole[1], "metric/topk_intersection") == [(epsilon, 1 - epsilon) for epsilon in EPSILONS]
    axes = {record["name"]: record.get("step_metric") for record in records(whole[1], "metric")}
    assert axes == {"metric/topk_intersection": "epsilon", "epsilon": None, "train/loss": "epoch", "epoch": None}


def test_summary_values(summary):
    assert (summary["summary"]["test_accuracy"], summary["summary"]["dataset"]) == (0.97, "mnist5k")


def test_a_long_table_is_a_sample_with_typed_columns(whole, summary):
    assert summary["summary"]["rows"]["nrows"] == 20
    table = json.loads((whole[1] / "files" / summary["summary"]["rows"]["path"]).read_text())
    assert table["columns"] == list(ROWS.columns)
    expected = ROWS.sample(20, random_state=0).sort_index()
    for row, (_, wanted) in zip(table["data"], expected.iterrows(), strict=True):
        assert row == [None if pd.isna(value) else value for value in wanted]


def test_table_columns_have_types(whole):
    (entry,) = [
        item
        for record in records(whole[1], "artifact")
        for item in record["manifest"]["contents"]
        if "table" in item["path"]
    ]
    content = Path(entry["local_path"]).read_text()
    types = {name: kind["params"]["allowed_types"] for name, kind in _column_types(content).items()}
    assert {"wb_type": "number"} in types["spearman"]
    assert {"wb_type": "boolean"} in types["label_preserved"]
    assert {"wb_type": "string"} in types["attack"]


def _column_types(table):
    return json.loads(table)["column_types"]["params"]["type_map"]


def test_image_is_kept(whole, summary):
    assert summary["summary"]["gallery"]["caption"] == "worst"
    assert (whole[1] / "files" / summary["summary"]["gallery"]["path"]).is_file()


def test_artifact_refers_to_the_file_in_the_store(whole):
    (artifact,) = [record for record in records(whole[1], "artifact") if record["type"] == "rows"]
    assert artifact["name"] == "rows-attack-0123456789ab"
    assert json.loads(artifact["metadata"]) == {"examples": 50}
    (entry,) = artifact["manifest"]["contents"]
    assert (entry["path"], entry["local_path"]) == ("rows.parquet", str(whole[0] / "rows.parquet"))


def test_nothing_secret_and_nothing_in_the_home_folder(whole):
    folder, _ = whole
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    assert not (folder / "home").exists()
    assert [path.name for path in files if path.suffix == ".patch" or path.name == "requirements.txt"] == []


# ---- ends of a run


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_error_in_the_body_passes_through_and_ends_the_run_with_exit_code_1(tmp_path, error):
    with pytest.raises(error), open_track(tmp_path):
        raise error
    assert records(runs(tmp_path)[0], "exit") == [{"exit_code": 1}]


def test_runs_may_be_open_side_by_side(tmp_path):
    with open_track(tmp_path) as outer:
        outer.log({"m": 1.0}, step_name="epsilon", step=0.1)
        with open_track(tmp_path, job="train", identity="ba:9/8") as inner:
            inner.log({"m": 2.0}, step_name="epsilon", step=0.2)
        outer.log({"m": 3.0}, step_name="epsilon", step=0.3)
    by_id = {records(run, "run")[0]["run_id"]: points(run, "m") for run in runs(tmp_path)}
    assert by_id == {"attack-0123456789ab": [(0.1, 1.0), (0.3, 3.0)], "train-ba-9-8": [(0.2, 2.0)]}


def test_a_killed_job_leaves_its_points_and_a_retry_a_second_segment(tmp_path):
    script = """
import os, sys, time
from pathlib import Path
from runner.tracking import track
request = dict(job="attack", identity="0123456789ab", name="n", group=None, config={}, provenance={})
with track({"dir": None}, **request, folder=Path(sys.argv[1])) as tracker:
    tracker.log({"m": 1.0}, step_name="epsilon", step=0.1)
    time.sleep(1.5)
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, check=False).returncode == -9
    with open_track(tmp_path) as tracker:
        tracker.log({"m": 2.0}, step_name="epsilon", step=0.2)
    first, second = runs(tmp_path)
    assert (points(first, "m"), points(second, "m")) == ([(0.1, 1.0)], [(0.2, 2.0)])
    assert {records(run, "run")[0]["run_id"] for run in (first, second)} == {"attack-0123456789ab"}


# ---- W&B fails, the job does not


def boom(*args, **kwargs):
    raise RuntimeError("W&B is down")


def job(folder, settings=None):
    with open_track(folder, settings) as tracker:
        for step in range(3):
            tracker.log({"m": 1.0}, step_name="epsilon", step=step)
        tracker.summary({"a": 1})
        tracker.table("rows", ROWS)
        tracker.image("gallery", folder / "missing.png")
        tracker.artifact("rows", "rows", [folder / "missing"], {})
        return "the result"


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("wandb.init", "could not start offline, the job goes on without it: RuntimeError: W&B is down"),
        ("wandb.Settings", "could not start offline, the job goes on without it: RuntimeError: W&B is down"),
        ("wandb.Run.log", "failed in log, the job goes on without it: RuntimeError: W&B is down"),
        ("wandb.Run.define_metric", "failed in log, the job goes on without it: RuntimeError: W&B is down"),
        ("wandb.Table", "failed in table, the job goes on without it: RuntimeError: W&B is down"),
    ],
)
def test_failures_of_wandb_are_one_warning(tmp_path, monkeypatch, caplog, where, said):
    import wandb

    holder, name = (wandb.Run, where.split(".")[-1]) if "Run." in where else (wandb, where.split(".")[-1])
    monkeypatch.setattr(holder, name, boom)
    with caplog.at_level(logging.WARNING, "runner"):
        assert job(tmp_path) == "the result"
    assert warnings_of(caplog) == [f"W&B {said}"]


def test_a_failing_finish_is_a_warning(tmp_path, monkeypatch, caplog):
    import wandb

    finish = wandb.Run.finish
    monkeypatch.setattr(wandb.Run, "finish", lambda run, **options: (finish(run, **options), boom()))
    with open_track(tmp_path):
        pass
    assert warnings_of(caplog) == ["W&B failed in finish: RuntimeError: W&B is down"]


def test_a_missing_file_ends_tracking_and_still_closes_the_run(tmp_path, caplog):
    assert job(tmp_path) == "the result"
    (warning,) = warnings_of(caplog)
    assert warning.startswith("W&B failed in image, the job goes on without it: ")
    assert records(runs(tmp_path)[0], "exit") == [{"exit_code": 0}]


def test_wandb_not_installed(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert job(tmp_path) == "the result"
    assert "could not start offline, the job goes on without it: ModuleNotFoundError" in caplog.text


def test_a_folder_that_cannot_be_made(tmp_path, caplog):
    (tmp_path / "file").touch()
    assert job(tmp_path, {"dir": str(tmp_path / "file" / "below")}) == "the result"
    assert "could not start offline, the job goes on without it: NotADirectoryError" in caplog.text


def test_an_interrupt_inside_wandb_passes_through(tmp_path, monkeypatch):
    import wandb

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), open_track(tmp_path) as tracker:  # noqa: PT012
        monkeypatch.setattr(wandb.Run, "log", interrupt)
        tracker.log({"m": 1.0}, step_name="epsilon", step=0)


def test_online_without_a_login_goes_on_offline(tmp_path, monkeypatch, caplog):
    import wandb

    monkeypatch.setattr(wandb, "login", lambda **options: options != {"prompt": False, "verify": True})
    with open_track(tmp_path, {"mode": "online"}) as tracker:
        tracker.log({"m": 1.0}, step_name="epsilon", step=0.5)
    expected = "W&B could not start online, the job goes on offline: ConnectionError: no W&B login on this machine"
    (warning,) = warnings_of(caplog)
    assert warning.startswith(expected)
    assert points(runs(tmp_path)[0], "m") == [(0.5, 1.0)]


def test_online_resumes_the_run_of_its_id(tmp_path, monkeypatch):
    import wandb

    seen = {}

    def init(**arguments):
        seen.update(arguments)
        raise ConnectionError

    monkeypatch.setattr(wandb, "login", lambda **options: True)
    monkeypatch.setattr(wandb, "init", init)
    job(tmp_path, {"mode": "online", "start_timeout": 7, "finish_timeout": 8})
    assert (seen["id"], seen["mode"], seen["resume"]) == ("attack-0123456789ab", "offline", None)
    seen.clear()
    monkeypatch.setattr(wandb, "init", lambda **arguments: seen.update(arguments) or (_ for _ in ()).throw(SystemExit))
    with pytest.raises(SystemExit):
        job(tmp_path, {"mode": "online", "start_timeout": 7, "finish_timeout": 8})
    assert (seen["id"], seen["mode"], seen["resume"]) == ("attack-0123456789ab", "online", "allow")
    assert (seen["settings"].init_timeout, seen["settings"].finish_timeout) == (7, 8)


# ---- settings


def test_none_imports_no_wandb(tmp_path):
    script = """
import sys
from pathlib import Path
from runner.tracking import Tracker, track
assert "wandb" not in sys.modules and "torch" not in sys.modules and "pandas" not in sys.modules
request = dict(job="train", identity="x", name="n", group=None, config={}, provenance={}, folder=Path(sys.argv[1]))
with track({"mode": "disabled"}, **request) as tracker:
    tracker.log({"a": 1.0}, step_name="epoch", step=1)
    tracker.table("rows", None)
assert type(tracker) is Tracker and "wandb" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "new")], check=True, cwd=ROOT)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"mode": "ofline"},
            r"tracking\.mode=ofline: allowed are disabled, offline, online \(did you mean offline\?\)",
        ),
        ({"mode": None}, r"tracking\.mode=None: allowed are disabled, offline, online"),
        ({"projet": "x"}, r"tracking=projet: allowed are .*did you mean project\?"),
        ({"project": ""}, r"tracking\.project=: must be the name of a project"),
        ({"max_table_rows": 0}, r"tracking\.max_table_rows=0: must be at least 1"),
        ({"tags": "word"}, r"tracking\.tags=word: must be a list of words"),
        ({"tags": ["x" * 65]}, r"tracking\.tags="),
        ({"finish_timeout": 0}, r"tracking\.finish_timeout=0: must be above 0"),
        ({"start_timeout": -1}, r"tracking\.start_timeout=-1: must be above 0"),
    ],
)
def test_bad_settings_name_their_key_before_anything_starts(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message), open_track(tmp_path, settings):
        pytest.fail("the body ran")
    assert list(tmp_path.iterdir()) == []


def composed(choice):
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return OmegaConf.to_container(
            compose(overrides=[f"+tracking={choice}", "+outputs=here"]).tracking, resolve=True
        )


@pytest.mark.parametrize(("choice", "mode"), [("wandb_offline", "offline"), ("wandb", "online"), ("none", "disabled")])
def test_the_yaml_files_are_valid_and_complete(choice, mode):
    node = composed(choice)
    assert (node["name"], TrackingSettings.read(node).mode) == (choice, mode)
    assert set(node) == {"name", *TrackingSettings.__dataclass_fields__}
    assert node["dir"] == "here"


@pytest.mark.parametrize(
    ("variable", "value", "key"),
    [
        ("WANDB_MODE", "disabled", "mode"),
        ("WANDB_PROJECT", "mine", "project"),
        ("WANDB_ENTITY", "us", "entity"),
        ("WANDB_DIR", "/big disk", "dir"),
    ],
)
def test_wandbs_own_variables_are_the_defaults(monkeypatch, variable, value, key):
    monkeypatch.setenv(variable, value)
    assert composed("wandb_offline")[key] == value
    assert composed("none")["mode"] == "disabled"
