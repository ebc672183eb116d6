"""A composed config becomes a run once: what the run then is, here and in another process."""

import json
import pickle
import subprocess
import sys
from typing import Any

import pytest
from composing import ROOT
from omegaconf import OmegaConf
from running import do

from runner.core.errors import ConfigError
from runner.runs import validation
from runner.runs.identity import RENAMED
from runner.runs.job_table import JOBS
from runner.runs.run import Run

READ = """
import json, pickle, sys
runs = pickle.load(sys.stdin.buffer)
print(json.dumps([SHOWN for run in runs]))
"""
SHOWN = (
    "[run.job.name, run.identity, str(run.folder), run.columns, run.config, run.replaces, run.keeps_images, "
    "run.sweep, [[each.job.name, str(each.folder)] for each in run.inputs]]"
)


def test_a_pickled_run_is_the_same_run_in_another_process(compose) -> None:
    lines = (("job=train",), ("attack=transfer_model",), ("job=evaluate", "seeds=[3,1]"))
    runs = [Run.of(compose(*line)).keeping_images().replacing({"0123456789ab": "stamp"}) for line in lines]
    assert all(run.parts.defense is not None for run in runs), "objects stay here"
    shown: Any = [eval(SHOWN, {"run": run}) for run in runs]
    command = [sys.executable, "-c", READ.replace("SHOWN", SHOWN)]
    done = subprocess.run(command, input=pickle.dumps(runs), cwd=ROOT, capture_output=True, check=True)
    assert json.loads(done.stdout) == json.loads(json.dumps(shown))


@pytest.mark.usefixtures("no_reports")
def test_a_run_is_validated_once_with_all_that_it_needs(compose, monkeypatch: pytest.MonkeyPatch) -> None:
    validate, seen = validation.validate, list[str]()
    monkeypatch.setattr(
        validation, "validate", lambda config, parts: (seen.append(config["job"]["name"]), validate(config, parts))
    )
    config = compose("job=evaluate", "seeds=[0,1]", "metrics=[topk_intersection]")
    assert do(config)["failed_seeds"] == {}
    assert seen == ["evaluate"]
    done = Run.of(config)
    assert (seen, done.built) == (["evaluate"], {}), "finished: nothing is built"
    Run.of({**config, "rerun": "all"})
    assert seen == ["evaluate", "evaluate"], "it may be executed again"


def test_what_differs_from_a_finished_run_is_still_refused(compose) -> None:
    config = compose("job=train")
    do(config)
    for group, key, wrong in (("defense", "epsilom", 1), ("model", "beta", -1.0), ("training", "epochs", -1)):
        with pytest.raises(ConfigError, match=rf"^{group}\.{key}"):
            Run.of({**config, group: {**config[group], key: wrong}})
    with pytest.raises(ConfigError, match=r"^epsilon\.strat: no such key"):
        Run.of(compose("job=attack") | {"epsilon": {**config["epsilon"], "strat": 0.1}})
    with pytest.raises(ConfigError, match=r"^threads=0: must be"):
        Run.of({**config, "threads": 0})


def test_a_target_that_has_moved_is_the_same_training_under_its_first_name(compose) -> None:
    config = compose("job=train")
    ((now, first),) = RENAMED.items()
    assert config["training"]["_target_"] == now
    old = {**config, "training": {**config["training"], "_target_": first}}
    assert Run.of(old).identity == Run.of(config).identity
    result = do(old)
    assert (result["status"], result["train_id"]) == ("ok", Run.of(config).identity)
    assert do(config) == result
    stored = OmegaConf.load(Run.of(config).folder / "config.yaml")
    assert stored.training._target_ == now, "what a new run stores can be read by today's code"


def test_what_cannot_work_becomes_no_run(compose) -> None:
    with pytest.raises(ConfigError, match=r"^examples=0: must be"):
        Run.of({**compose(), "examples": 0})


def test_a_report_has_no_identity_and_each_other_job_has_one(compose) -> None:
    found = {job: Run.of(compose(f"job={job}")) for job in JOBS}
    assert [job for job, run in found.items() if not run.identity] == ["report"]
    assert [job for job, run in found.items() if run.inputs] == ["attack", "evaluate"]
    assert all(run.folder.name.endswith(run.identity) for run in found.values())
