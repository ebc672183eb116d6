"""What a result says of the code that made it: which modules count, and what older results say."""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from every_option import compositions
from running import as_job, attack_run, train_run

from runner.core.config import Config
from runner.runs import module_hashes as modules
from runner.runs.fingerprint import COUNTED, RULES, changes_since, code_of, fingerprint, fingerprint_hash
from runner.runs.job_table import JOBS
from runner.runs.run import Run
from runner.runs.staleness import Staleness

COMPUTED = [job for job in JOBS if job != "report"]
UNCOUNTED = tuple(
    f"runner.{room}"
    for room in ("store", "sweeps", "report", "tracking", "sync", "cli", "entry", "plugins", "jobs", "runs")
)
"""Rooms in which an edit makes nothing stale: what stores, launches, reports, and puts jobs together."""


def names(config: Config, job: str) -> set[str]:
    """The modules of this project that count for a job."""
    return {name for name in code_of(Run(JOBS[job], as_job(config, job))) if name.startswith("runner.")}


def targets(node: Any) -> list[str]:
    """Every `_target_` in a part of a config."""
    if not isinstance(node, dict):
        return []
    own = [node["_target_"]] if "_target_" in node else []
    return [*own, *(target for item in node.values() for target in targets(item))]


@pytest.mark.parametrize("job", COMPUTED)
def test_what_is_only_shown_stored_launched_or_typed_counts_for_no_job(job: str) -> None:
    for config in compositions():
        found = names(config, job)
        assert not {name for name in found if name.startswith(UNCOUNTED)}
        core = {name.removeprefix("runner.core.") for name in found if name.startswith("runner.core.")}
        passes = {"chunking", "frozen_layers", "frozen_passes", "interception", "shared_pass"}
        assert core <= passes | {"cosine", "grid", "norms", "rng", "trace"}


@pytest.mark.parametrize(
    ("job", "groups"),
    [
        ("train", ["dataset", "model", "training", "defense"]),
        ("attack", ["dataset", "model", "attribution", "attack", "certificate"]),
    ],
)
def test_every_plug_in_counts_for_the_job_that_calls_it(job: str, groups: list[str]) -> None:
    for config in compositions():
        found = names(config, job)
        for group in groups:
            if config.get(group) is not None:
                assert modules.module_of(config[group]["_target_"]) in found, config[group]["name"]
        for metric in config["metrics"]["measured"].values() if job == "attack" else ():
            if isinstance(metric, dict):
                assert modules.module_of(metric["_target_"]) in found


def test_what_counts_for_a_job(compose) -> None:
    config = compose("attack=manipulate", "attribution=smoothgrad", "defense=trades")
    train, attacked, evaluate = (names(config, job) for job in ("train", "attack", "evaluate"))
    assert {"runner.defenses.trades", "runner.models.mlp", "runner.core.rng"} <= train
    assert {f"runner.training.{name}" for name in ("monitoring", "optimisation", "trainer", "training_state")} <= train
    plugins = {name for name in train if name.startswith(("runner.attacks", "runner.attributions"))}
    assert plugins == {"runner.attacks.engine"}, "the inner search of the defense"
    assert {"runner.attacks.engine", "runner.attacks.objectives", "runner.attributions.smoothgrad"} <= attacked
    assert {f"runner.attacking.{name}" for name in ("chunk", "results", "setup", "transfer_images")} <= attacked
    assert {f"runner.core.{name}" for name in ("grid", "norms", "rng")} <= attacked
    others = {"runner.defenses.trades", "runner.attributions.integrated_gradients", "runner.attacks.sparse"}
    assert not others & attacked
    assert {"runner.stats.curves", "runner.metrics.kendall", "runner.stats.claims"} <= evaluate
    assert "runner.attacks.engine" not in evaluate


def test_the_source_of_a_transfer_counts_by_itself(compose) -> None:
    found = names(compose("attack=transfer_attribution", "attribution=saliency"), "attack")
    assert "runner.attacks.transfer" in found
    assert "runner.attacks.gradient" not in found


def test_what_is_said_to_count_is_there() -> None:
    places = {name.removesuffix(".*") for name in COUNTED}
    assert {name for name in places if modules._place(name) is None} == set()
    assert fingerprint_hash({}) is None


# ---- results of rules 1, which named all modules but a list of exceptions (`rules_1`, made by the last such commit)

OLD = Path(__file__).with_name("rules_1")
TABLE: dict[str, dict[str, str]] = json.loads(
    Path(modules.__file__).with_name("fingerprints_v1.json").read_text(encoding="utf-8")
)
STORED = (
    *("tracking=none", "threads=1", "dataset=digits", "dataset.train_size=200", "dataset.test_size=60"),
    *("dataset.top_k=8", "training.epochs=1", "examples=4", "attack.chunk=4", "model=small_cnn", "model.width=4"),
    *("epsilon.stop=0.4", "epsilon.step=0.2", "attack.steps=2", "defense=ssr", "seeds=[0,1]"),
)


@pytest.fixture(params=COMPUTED)
def old(request: pytest.FixtureRequest, compose) -> tuple[dict[str, Any], dict[str, str]]:
    """The fingerprint of a result of rules 1, and the code of its run as it was when the rules changed."""
    run = Run.of(compose(*STORED, f"job={request.param}"))
    stated = json.loads((OLD / run.job.folder / run.folder.name / "result.json").read_text())["fingerprint"]
    assert "rules" not in stated
    return stated, {name: TABLE["after"][name] for name in code_of(run) if name in TABLE["after"]}


def test_a_result_of_the_rules_before_is_not_stale(old) -> None:
    stated, now = old
    assert len(now) > 5
    assert changes_since(stated, now) is None
    own = {"mine.maps": "0" * 12}
    assert changes_since({**stated, "code": stated["code"] | own}, now | own) is None


def test_a_module_that_has_changed_since_makes_it_stale(old) -> None:
    stated, now = old
    for name in now:
        assert changes_since(stated, now | {name: "0" * 12}) == f"changed: {name}"


def test_a_module_that_was_older_then_makes_it_stale(old) -> None:
    stated, now = old
    assert set(stated["code"].items()) <= set(TABLE["before"].items())
    for name in stated["code"]:
        assert changes_since({**stated, "code": stated["code"] | {name: "0" * 12}}, now) == f"changed: {name}"
    for name in ("runner.core.gone", "mine.maps"):
        assert changes_since({**stated, "code": stated["code"] | {name: "0" * 12}}, now) == f"changed: {name}"


def test_results_state_the_rules_that_they_were_made_by(compose) -> None:
    run = Run.of(compose("job=train"))
    stated = fingerprint(run, code_of(run))
    assert stated["rules"] == RULES
    assert changes_since(stated, code_of(run)) is None
    assert (
        changes_since({**stated, "code": {}}, {"a": "1", "b": "2", "c": "3", "d": "4"}) == "changed: a, b, c and 1 more"
    )


def test_a_whole_store_of_rules_1_is_looked_at_in_the_new_way(compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fingerprint of an input is hashed by the rules that it was made with, not by the current ones."""
    after = TABLE["after"]
    monkeypatch.setattr(
        "runner.runs.staleness.code_of", lambda run: {name: after[name] for name in code_of(run) if name in after}
    )
    config = {**compose(*STORED, "job=evaluate", "seeds=[0,1]"), "outputs": str(OLD)}
    run, staleness = Run.of(config), Staleness()
    assert [each.result() is not None for each in (run, *run.inputs, run.inputs[0].inputs[0])] == [True] * 2 + [
        False,
        True,
    ]
    assert staleness.reason(run) is None
    assert staleness.unknown == set()


# ---- the user's code, and installed packages


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A package of the user's in the working directory, read anew at every call."""
    (tmp_path / "their_code").mkdir()
    for name, text in (
        ("__init__", "from .nets import Net\n"),
        ("nets", "import math\nfrom torch import nn\nfrom their_code.parts import width\nclass Net(nn.Module): pass\n"),
        ("parts", "width = 3\n"),
        ("maps", "def map_of(model, images, targets):\n    return images\n"),
        ("unused", "x = 1\n"),
    ):
        (tmp_path / "their_code" / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))

    def forget() -> None:
        for known in (modules.hashes, modules.versions, modules._source, modules._is_own, modules._place):
            known.cache_clear()

    forget()
    yield tmp_path / "their_code", forget
    forget()


def test_code_of_the_user_counts_by_its_content_and_packages_by_their_version(compose, theirs) -> None:
    folder, forget = theirs
    config = compose(
        "model=own", "model.target=their_code.Net", "attribution=own", "attribution.target=their_code.maps.map_of"
    )
    before = code_of(attack_run(config))
    own = {name for name in before if name.startswith("their_code")}
    assert own == {"their_code", "their_code.nets", "their_code.parts", "their_code.maps"}
    assert before["torch (version)"] == version("torch")
    assert "math (version)" not in before
    (folder / "parts.py").write_text("width = 4\n")
    (folder / "unused.py").write_text("x = 2\n")
    forget()
    now = code_of(attack_run(config))
    assert changes_since({"rules": RULES, "code": before}, now) == "changed: their_code.parts"


def test_packages_count_for_the_runs_that_use_them(compose) -> None:
    packages = lambda *words: {name for name in code_of(train_run(compose(*words))) if "(version)" in name}  # noqa: E731
    assert packages("model=mlp") == set()
    assert packages("model=timm", "model.architecture=test_vit") == {"timm (version)"}
    assert packages("model=torchvision", "model.architecture=vit_b_16") == {"torchvision (version)"}
    assert packages("model=own", "model.target=timm.models.VisionTransformer") == {"timm (version)"}


def test_another_version_makes_stale_and_a_version_that_was_not_stated_does_not() -> None:
    before, now = {"a": "1", "timm (version)": "1.0"}, {"a": "1", "timm (version)": "1.1"}
    assert changes_since({"rules": RULES, "code": before}, now) == "changed: timm (version)"
    assert changes_since({"rules": RULES, "code": {"a": "1"}}, now) is None
