"""Transfer end to end: the source is made first, its images are re-scored, and result.json says where they are from."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from composing import ROOT, composed
from running import attack_run, do, plan_of, setup_of, train_run

from runner.attacking.chunk import Chunk
from runner.core.config import resolved
from runner.core.errors import ConfigError, StoreError
from runner.core.hashing import digest
from runner.runs.identity import attack_identity, source_of
from runner.runs.run import Run
from runner.store.files import read_tensors, write_tensors
from runner.store.folder import Folder

FEW = "attack.source.attack.steps=3"
ATTRIBUTIONS = ("attack=transfer_attribution", FEW)
MODELS = ("attack=transfer_model", FEW)
METRICS = ["topk_intersection", "spearman", "kendall", "cosine_distance", "mass_center_shift", "attack_harm"]
HEADERS = [
    (path.stem, line[1:].strip())
    for path in sorted((ROOT / "conf" / "attack").glob("*.yaml"))
    if path.stem in ("transfer_attribution", "transfer_model", "query_nes", "query_square", "one_step")
    for line in path.read_text().splitlines()
    if line.startswith("#") and " python run.py" in line
]


def result_of(config: Any) -> dict[str, Any]:
    result = Folder(attack_run(config).folder).finished()
    assert result is not None
    return result


def images_of(config: Any) -> dict[str, torch.Tensor]:
    found = read_tensors(attack_run(config).folder / "images.safetensors")
    assert found is not None
    return found[0]


def source(config: Any) -> Any:
    found = source_of(config)
    assert found is not None
    return found


@pytest.mark.parametrize(("name", "line"), HEADERS, ids=[f"{name}-{n}" for n, (name, _) in enumerate(HEADERS)])
def test_every_command_of_a_header_composes_and_passes_the_checks(name: str, line: str, tmp_path: Path) -> None:
    words = line.removeprefix("python run.py").split()
    if "-m" in words:  # one cell of the sweep
        words = [word.split(",")[0] for word in words if word != "-m"]
    config = resolved(composed(*words, f"outputs={tmp_path}", "tracking=none", "device=cpu"))
    assert config["attack"]["name"].startswith(name)
    Run.of(config)


def test_on_the_attribution_it_came_from_it_is_the_white_box_attack(attacked) -> None:
    """Rows of the transfer from saliency to saliency are those of the attack on saliency."""
    config, rows = attacked(*ATTRIBUTIONS)
    white, white_rows = attacked()
    assert attack_run(source(config)).folder == attack_run(white).folder
    for name in [*METRICS, "perturbation_norm", "adversarial_prediction"]:
        assert np.allclose(rows[name], white_rows[name], rtol=0, atol=1e-6), name
    assert np.array_equal(rows.perturbation_norm, white_rows.perturbation_norm)
    told = result_of(config)["source"]
    assert told["itself"] is True
    assert told["run"] == told["white_box"] == attack_run(white).identity
    assert told["map_cosine"] == pytest.approx(1.0)
    assert told["same_prediction"] == 1.0


def test_images_of_one_attribution_are_scored_on_another(attacked, compose) -> None:
    config, rows = attacked(*ATTRIBUTIONS, "attribution=input_x_gradient", "attack.save_images=true")
    own, found = images_of(config)["perturbed"], images_of(source(config))["perturbed"]
    clean = images_of(config)["clean"]
    for step in range(4):
        for n in range(6):
            candidates = [clean[n], *found[1 : step + 1, n]]
            assert any(torch.equal(own[step, n], candidate) for candidate in candidates)
    assert rows.label_preserved.all()
    assert (rows.perturbation_norm <= rows.epsilon * (1 + 1e-9)).all()
    assert (rows[rows.epsilon == 0].perturbation_norm == 0).all()
    harm = rows.pivot_table(index="example_id", columns="epsilon", values="attack_harm").to_numpy()
    assert (np.diff(harm, axis=1) >= 0).all()
    told = result_of(config)["source"]
    white = compose("attribution=input_x_gradient")
    assert told["white_box"] == attack_run(white).identity
    assert (told["itself"], told["attribution"], told["attack"], told["seed"]) == (False, "saliency", "topk", 0)
    last = rows[rows.epsilon == 0.6]
    assert told["found"] == pytest.approx((last.perturbation_norm > 0).mean())
    assert told["found"] > 0
    assert told["map_cosine"] == pytest.approx(_cosine(config), abs=1e-6)
    assert result_of(config)["twin"] == {"beta": None, "map_cosine": None}


def _cosine(config: Any) -> float:
    setups = [setup_of(config), setup_of(source(config))]
    images, _, ids = setups[0].test.batch(torch.arange(6), "cpu")
    maps = []
    for setup in setups:
        classes = setup.model(images).argmax(1)
        maps.append(setup.explain(setup.model, images, classes, setup.keys(ids, "evaluate-clean")).flatten(1).double())
    return float(torch.nn.functional.cosine_similarity(*maps, dim=1).mean())


def test_images_of_a_surrogate_are_scored_on_the_target(attacked) -> None:
    config, rows = attacked(*MODELS, "+defense@attack.source.defense=input_gradient", "attack.source.seed=3")
    surrogate = source(config)
    assert train_run(surrogate).folder != train_run(config).folder
    assert Folder(train_run(surrogate).folder).finished()
    assert rows.label_preserved.all()
    assert set(rows.train_id) == {train_run(config).identity}
    told = result_of(config)["source"]
    assert (told["seed"], told["defense"], told["itself"]) == (3, surrogate["defense"]["name"], False)
    assert told["map_cosine"] == pytest.approx(_cosine(config), abs=1e-6)
    assert 0 < told["map_cosine"] < 0.999
    setups = setup_of(config), setup_of(surrogate)
    images = images_of(surrogate)["clean"]
    same = [setup.model(images).argmax(1) for setup in setups]
    assert told["same_prediction"] == pytest.approx(same[0].eq(same[1]).double().mean().item())


def test_an_option_of_the_source_replaces_and_single_keys_are_laid_over(compose) -> None:
    config = compose(*MODELS, "+attack.source.model.widths=[8]", "+training@attack.source.training=paper")
    surrogate = source(config)
    assert surrogate["model"] == {**config["model"], "widths": [8]}
    assert surrogate["training"]["name"] == "paper"
    assert surrogate["defense"] == config["defense"]
    assert surrogate["seed"] == 100
    assert surrogate["attack"]["save_images"] is True
    assert source(compose(*MODELS, "attack.source.seed=null"))["seed"] == 0
    preset = source(compose(*MODELS, "+defense@attack.source=softplus", "attack.source.model.beta=3"))
    assert (preset["model"]["activation"], preset["model"]["beta"]) == ("softplus", 3)
    assert preset["model"]["widths"] == [16]
    assert preset["defense"]["name"] == "softplus-3"


def test_labels_tell_the_source(compose) -> None:
    names = {
        (*ATTRIBUTIONS, "attribution@attack.source.attribution=smoothgrad"): "transfer_attribution-smoothgrad-topk",
        MODELS: "transfer_model-same-same-s100-topk",
        (*MODELS, "+defense@attack.source.defense=madry_l2", "attack.source.defense.epsilon=0.5"): (
            "transfer_model-same-madry_l2-0.5x7-s100-topk"
        ),
    }
    for overrides, name in names.items():
        assert compose(*overrides)["attack"]["name"] == name


def test_the_identity_holds_that_of_the_source(compose) -> None:
    def of(*overrides: str) -> str:
        return attack_run(compose(*ATTRIBUTIONS, *overrides)).identity

    config = compose(*ATTRIBUTIONS)
    assert attack_identity(config)["attack"]["source"] == attack_run(source(config)).identity
    assert of("attack.source.attack.chunk=2", "attack.source.attack.save_images=true", "attack.chunk=3") == of()
    assert of("attack.source.attack.steps=4") != of()
    assert of("attribution@attack.source.attribution=input_x_gradient") != of()
    groups = [attack_run({**compose(*MODELS), "seed": seed}).columns["group_id"] for seed in (0, 1)]
    assert groups[0] == groups[1]
    certified = {**config, "certificate": {"name": "x", "_target_": "x"}}
    assert digest(attack_identity(source(certified))) == digest(attack_identity(source(config)))


def test_the_source_comes_before_what_needs_it(compose) -> None:
    config = compose(*MODELS, "attribution=input_x_gradient", "+attribution@attack.source.attribution=saliency")
    assert [needed.job.name for needed in attack_run(config).inputs] == ["train", "attack"]
    plan = plan_of(config)
    order = [task.run.folder for task in plan.tasks.values()]
    surrogate = source(config)
    own = attack_run(config).folder
    expected = [train_run(config).folder, train_run(surrogate).folder, attack_run(surrogate).folder, own]
    assert order == expected
    assert set(plan.tasks[own].needs) == {expected[0], expected[2]}
    assert plan.tasks[expected[2]].needs == [expected[1]]


def test_a_source_that_is_there_is_used_as_it_is(attacked) -> None:
    white, _ = attacked("attack.save_images=true")
    file = attack_run(white).folder / "images.safetensors"
    before = file.stat().st_mtime_ns
    attacked(*ATTRIBUTIONS, "attribution=input_x_gradient")
    assert file.stat().st_mtime_ns == before


def test_stopped_between_two_steps_it_goes_on(attacked, compose, monkeypatch, tmp_path) -> None:
    overrides = (*ATTRIBUTIONS, "attribution=input_x_gradient")
    _, undisturbed = attacked(*overrides, outputs=tmp_path / "undisturbed")
    config = compose(*overrides)
    do(source(config))
    taken: list[float] = []
    step = Chunk.step

    def stopping(self: Chunk, epsilon: float) -> None:
        if len(taken) == 3:
            raise KeyboardInterrupt
        taken.append(epsilon)
        step(self, epsilon)

    with monkeypatch.context() as patch:
        patch.setattr(Chunk, "step", stopping)
        with pytest.raises(KeyboardInterrupt):
            do(config)
    do(config)
    rows = pd.read_parquet(attack_run(config).folder / "rows.parquet")
    pd.testing.assert_frame_equal(rows, undisturbed, check_exact=True)


def test_the_chunk_is_memory_only(attacked, tmp_path) -> None:
    overrides = (*ATTRIBUTIONS, "attribution=input_x_gradient")
    _, rows = attacked(*overrides)
    _, other = attacked(*overrides, "attack.chunk=5", "attack.source.attack.chunk=3", outputs=tmp_path / "other")
    pd.testing.assert_frame_equal(rows, other, rtol=1e-4, atol=1e-5)


def test_a_file_of_other_examples_is_refused(attacked) -> None:
    config, _ = attacked(*ATTRIBUTIONS)
    file = attack_run(source(config)).folder / "images.safetensors"
    stored = images_of(source(config))
    write_tensors(file, {**stored, "clean": stored["clean"].flip(0)})
    (attack_run(config).folder / "result.json").unlink()
    with pytest.raises(StoreError, match="holds other examples"):
        do(config)
    assert not (attack_run(config).folder / "result.json").exists()  # the store is at fault, not the run


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            (*ATTRIBUTIONS, "+attack.source.dataset=digits"),
            r"attack\.source\.dataset: no such key; allowed here are attack,",
        ),
        ((*ATTRIBUTIONS, "attack.source.attack=null"), r"attack\.source\.attack=None: must be an attack"),
        (
            (*ATTRIBUTIONS, "attack.source.attribution=saliency"),
            r"attack\.source\.attribution=saliency: must be an option",
        ),
        (("attack=transfer_model", "attack.source=null"), r"attack\.source=None: must be the run that transfer_model"),
        (("+attack@attack.source.attack=topk",), r"attack\.source=given: must be absent: topk finds"),
        ((*ATTRIBUTIONS, "attack.source.attack.steps=0"), r"attack\.source: attack\.steps=0: must be at least 1"),
        ((*MODELS, "job=evaluate", "seeds=[0,100]"), r"attack\.source\.seed=100: must be none of the seeds \[0, 100\]"),
        (("attack=transfer_attribution", "attack.measure=objective"), r"attack\.measure=objective"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(overrides, message, compose) -> None:
    if overrides == ("attack=transfer_model", "attack.source=null"):
        config = compose("attack=transfer_model")
        config["attack"] = {**config["attack"], "source": None, "name": "transfer_model"}
    else:
        config = compose(*overrides)
    with pytest.raises(ConfigError, match=message):
        Run.of(config)
