import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from running import attack_run, do, evaluate_run, train_run

from runner.core.errors import ConfigError
from runner.jobs.report import _of_patterns
from runner.store.folder import Folder
from runner.training.trainer import Trainer

EVALUATE = ("job=evaluate", "seeds=[0,1]", "metrics=[topk_intersection,spearman]")


def fail_for(monkeypatch: pytest.MonkeyPatch, *seeds: int) -> None:
    real = Trainer.epoch

    def epoch(self: Any, number: int) -> dict[str, float]:
        if self.config["seed"] in seeds:
            raise RuntimeError(f"seed {self.config['seed']} is unlucky")
        return real(self, number)

    monkeypatch.setattr(Trainer, "epoch", epoch)


@pytest.mark.usefixtures("no_reports")
def test_several_seeds(compose) -> None:
    config = compose(*EVALUATE)
    result = do(config)
    folder = evaluate_run(config).folder
    files = {"summary.parquet", "areas.parquet", "critical.parquet", "config.yaml", "result.json"}
    assert files <= {path.name for path in folder.iterdir()}
    runs = [attack_run({**config, "seed": seed}).folder for seed in (0, 1)]
    assert result["runs"] == [f"attacks/{run.name}" for run in runs]
    assert result["failed_seeds"] == {}
    assert result["failure_rate"] == 0
    accuracies = [(Folder(run).finished() or {})["test_accuracy"] for run in runs]
    assert result["test_accuracy"] == pytest.approx(sum(accuracies) / 2, abs=1e-12)
    assert result["test_accuracy_low"] <= result["test_accuracy"] <= result["test_accuracy_high"]
    assert result["seconds_per_epoch"] > 0
    summary = pd.read_parquet(folder / "summary.parquet")
    rows = pd.concat([pd.read_parquet(run / "rows.parquet") for run in runs])
    for (epsilon, metric), part in summary.groupby(["epsilon", "metric"]):
        means = rows[rows.epsilon == epsilon].groupby("seed")[metric].mean()
        assert part["mean"].item() == pytest.approx(means.mean(), abs=1e-12)
    assert len(summary) == 4 * 2
    assert set(pd.read_parquet(folder / "areas.parquet").metric) == {"topk_intersection", "spearman"}
    critical = pd.read_parquet(folder / "critical.parquet").set_index("metric")
    assert critical.level.to_dict() == {"topk_intersection": 0.5, "spearman": 0.0}
    top = rows.pivot(index=["seed", "example_id"], columns="epsilon", values="topk_intersection")
    assert critical.never["topk_intersection"] == pytest.approx((top > 0.5).all(axis=1).groupby("seed").mean().mean())
    assert result["group_id"] == evaluate_run(config).columns["group_id"] == rows.group_id.iloc[0]


@pytest.mark.usefixtures("no_reports")
def test_a_second_call_does_nothing(compose) -> None:
    config = compose(*EVALUATE)
    do(config)
    files = {path: path.stat().st_mtime_ns for path in Path(config["outputs"]).rglob("*") if path.is_file()}
    do(config)
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_a_failed_seed_is_counted_and_tried_again(compose, monkeypatch) -> None:
    config = compose(*EVALUATE)
    with monkeypatch.context() as patch:
        fail_for(patch, 1)
        result = do(config)
    assert result["failed_seeds"] == {"1": "RuntimeError: seed 1 is unlucky"}
    assert result["failure_rate"] == pytest.approx(1 / len(config["seeds"]))
    assert result["runs"] == [f"attacks/{attack_run(config).folder.name}"]
    assert result["test_accuracy"] == (Folder(train_run(config).folder).finished() or {})["test_accuracy"]
    assert result["test_accuracy_low"] is None
    page = (evaluate_run(config).folder / "index.html").read_text()
    assert "seed 1 is unlucky" in page
    again = do(config)
    assert again["failed_seeds"] == {}
    assert len(again["runs"]) == 2


def test_all_seeds_failing_is_a_failure(compose, monkeypatch) -> None:
    config = compose(*EVALUATE)
    fail_for(monkeypatch, 0, 1)
    with pytest.raises(RuntimeError, match="seed 1 is unlucky"):
        do(config)
    result = Folder(evaluate_run(config).folder).result()
    assert result is not None
    assert (result["status"], result["error"]) == ("failed", "RuntimeError: seed 1 is unlucky")


def report(config: dict[str, Any], **settings: Any) -> dict[str, Any]:
    given = {"sweep": None, "runs": None, "name": None} | settings
    job = {"name": "report", "_target_": "runner.jobs.report.run"}
    return do({**config, "job": job, "report": given})


def test_report_on_runs(compose) -> None:
    config = compose("metrics=[topk_intersection,spearman]")
    outputs = Path(config["outputs"])
    do(config)
    name = attack_run(config).folder.name
    for runs in (["*saliency*"], f"attacks/{name}", [name], [str(outputs / "attacks" / "*-topk-*")]):
        assert _of_patterns(outputs, runs) == [outputs / "attacks" / name]
    assert report(config, runs=name) == {"status": "ok", "page": str(outputs / "reports" / "runs" / "index.html")}
    assert name[:10] in (outputs / "reports" / "runs" / "index.html").read_text()
    page = report(config, runs=[name], name="../../mine")["page"]
    assert Path(page).resolve().parent.parent == (outputs / "reports").resolve()


def test_report_on_a_sweep(compose) -> None:
    config = compose("metrics=[topk_intersection,spearman]", "sweep=mine")
    outputs = Path(config["outputs"])
    do(config)
    cells = [{"job": "attack", "folder": f"attacks/{attack_run(config).folder.name}", "overrides": []}]
    cells += [{"job": "attack", "folder": "attacks/not-yet-there", "overrides": []}]
    file = outputs / "sweeps" / "mine" / "cells.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"command": "x", "cells": cells}))
    assert report(config, sweep="mine")["page"] == str(outputs / "reports" / "mine" / "index.html")
    assert (outputs / "reports" / "mine" / "index.html").stat().st_size > 1000
    with pytest.raises(ConfigError, match=r"report\.sweep=mime: allowed are mine \(did you mean mine\?\)"):
        report(config, sweep="mime")


def test_reports_of_nothing(compose) -> None:
    config = compose()
    with pytest.raises(ConfigError, match=r"^report\.sweep=null: must name a sweep"):
        report(config)
    with pytest.raises(ConfigError, match=r"^report\.runs=\['nope\*'\]: no such folder under "):
        report(config, runs=["nope*"])
    (Path(config["outputs"]) / "attacks" / "begun-0").mkdir(parents=True)
    with pytest.raises(ConfigError, match="none of its runs is finished"):
        report(config, runs=["begun-0"])
    with pytest.raises(ConfigError, match=r"^report\.foo: no such key; allowed here are name, runs, sweep"):
        report(config, foo=1)
