import json
import multiprocessing
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from running import attack_run, do, parts_of, train_run

from runner.attacking.setup import load_model
from runner.store.files import read_tensors
from runner.store.folder import Folder
from runner.training.trainer import DivergedError, Trainer

METRICS = ["topk_intersection", "spearman", "kendall", "cosine_distance", "mass_center_shift"]
PERFECT = {"topk_intersection": 1, "spearman": 1, "kendall": 1, "cosine_distance": 0, "mass_center_shift": 0}
SMOOTH = ("attribution=smoothgrad", "attribution.samples=4")


def curves(rows: pd.DataFrame, column: str) -> np.ndarray:
    """(examples, budgets)."""
    return rows.pivot_table(index="example_id", columns="epsilon", values=column).to_numpy()


def equal_rows(first: pd.DataFrame, second: pd.DataFrame, **tolerance: Any) -> None:
    pd.testing.assert_frame_equal(first, second, **(tolerance or {"check_exact": True}))


def test_the_columns_are_the_contract(attacked) -> None:
    config, rows = attacked()
    cell = attack_run(config)
    assert list(rows.columns) == [
        *("example_id", "epsilon", "norm", "label", "clean_prediction", "adversarial_prediction", "clean_correct"),
        *("label_preserved", "perturbation_norm", *METRICS, "attack_harm"),
        *("dataset", "model", "defense", "attribution", "attack", "seed", "train_id", "run_id", "group_id"),
    ]
    integers = {"example_id", "label", "clean_prediction", "adversarial_prediction", "seed"}
    floats = {"epsilon", "perturbation_norm", "attack_harm", *METRICS}
    for name, kind in rows.dtypes.items():
        if name in integers:
            assert kind == np.int64, name
        elif name in floats:
            assert kind == np.float64, name
    assert rows.clean_correct.dtype == rows.label_preserved.dtype == bool
    assert list(rows.epsilon) == [epsilon for epsilon in (0.0, 0.2, 0.4, 0.6) for _ in range(6)]
    ids = parts_of(config).dataset.test.ids[:6].tolist()
    assert list(rows.example_id) == ids * 4
    constants = {"dataset": "digits", "model": "mlp", "defense": "none", "attribution": "saliency", "attack": "topk"}
    constants |= {"norm": "l2", "seed": 0, "run_id": cell.identity, "train_id": train_run(config).identity}
    for name, value in constants.items():
        assert set(rows[name]) == {value}, name
    assert set(rows.group_id) == {attack_run({**config, "seed": 5}).columns["group_id"]}


def test_labels_and_predictions_are_those_of_data_and_model(attacked) -> None:
    config, rows = attacked("attack.save_images=true")
    images, labels, _ = parts_of(config).dataset.test.batch(torch.arange(6), "cpu")
    model = load_model(train_run(config))
    for epsilon, part in rows.groupby("epsilon"):
        assert list(part.label) == labels.tolist(), epsilon
        assert list(part.clean_prediction) == model(images).argmax(1).tolist()
        assert list(part.clean_correct) == list(part.label == part.clean_prediction)
        assert list(part.label_preserved) == list(part.adversarial_prediction == part.clean_prediction)
    stored = read_tensors(attack_run(config).folder / "images.safetensors")
    assert stored is not None
    predictions = model(stored[0]["perturbed"].flatten(0, 1)).argmax(1)
    assert list(rows.adversarial_prediction) == predictions.tolist()


@pytest.mark.pictures
def test_what_a_finished_attack_leaves(attacked) -> None:
    config, rows = attacked()
    folder = attack_run(config).folder
    assert {path.name for path in folder.iterdir()} == {
        *("rows.parquet", "config.yaml", "result.json", "gallery.png", "gallery.safetensors", "run.log"),
    }
    result = Folder(folder).finished()
    assert result is not None
    assert result["epsilons"] == [0.0, 0.2, 0.4, 0.6]
    assert (result["examples"], result["kept_by"], result["stochastic"]) == (6, "topk_intersection", False)
    model = Folder(train_run(config).folder).finished()
    assert model is not None
    assert result["test_accuracy"] == model["test_accuracy"]
    still = {f"{epsilon:g}": float((part.perturbation_norm == 0).mean()) for epsilon, part in rows.groupby("epsilon")}
    assert result["unharmed"] == {key: value for key, value in still.items() if key != "0"}
    assert result["twin"]["beta"] == 10
    assert 0.5 < result["twin"]["map_cosine"] <= 1
    assert result["metrics"]["spearman"] == {"direction": "higher", "range": [-1.0, 1.0], "unit": ""}


@pytest.mark.parametrize(
    "overrides",
    [
        ("attack=topk",),
        ("attack=mass_center", "attribution=integrated_gradients", "attribution.steps=4"),
        ("attack=manipulate",),
    ],
    ids=["topk", "mass_center", "manipulate"],
)
def test_deterministic_attributions(attacked, overrides) -> None:
    config, rows = attacked(*overrides)
    clean = rows[rows.epsilon == 0]
    assert (clean.perturbation_norm == 0).all()
    assert (clean.adversarial_prediction == clean.clean_prediction).all()
    for name, value in PERFECT.items():
        assert clean[name].to_numpy() == pytest.approx(value, abs=1e-12), name
    assert rows.label_preserved.all()
    assert (rows.perturbation_norm <= rows.epsilon * (1 + 1e-9)).all()
    assert rows[rows.epsilon == 0.6].perturbation_norm.max() > 0.3
    measure = config["attack"]["measure"]
    assert (np.diff(curves(rows, "attack_harm"), axis=1) >= 0).all()
    if measure == "topk_intersection":
        assert (np.diff(curves(rows, measure), axis=1) <= 0).all()
        assert (-rows.attack_harm).to_numpy() == pytest.approx(rows[measure].to_numpy(), abs=0)
        assert rows[rows.epsilon == 0.6][measure].mean() < 0.9
    if measure == "mass_center_shift":
        assert (np.diff(curves(rows, measure), axis=1) >= -1e-9).all()
        assert rows[rows.epsilon == 0.6][measure].mean() > 0.05


def test_stochastic_attributions_have_a_noise_floor(attacked) -> None:
    config, rows = attacked(*SMOOTH)
    clean = rows[rows.epsilon == 0]
    assert (clean.perturbation_norm == 0).all()
    assert (clean.spearman < 1).all()
    assert (clean.cosine_distance > 0).all()
    assert (np.diff(curves(rows, "attack_harm"), axis=1) >= 0).all()
    assert rows[rows.epsilon == 0.6].attack_harm.mean() > clean.attack_harm.mean()
    assert (Folder(attack_run(config).folder).finished() or {})["stochastic"] is True


def test_common_noise_takes_the_floor_away(attacked) -> None:
    _, rows = attacked(*SMOOTH, "metrics.common_noise=true")
    clean, last = rows[rows.epsilon == 0], rows[rows.epsilon == 0.6]
    for name, value in PERFECT.items():
        assert clean[name].to_numpy() == pytest.approx(value, abs=1e-12), name
    assert last.spearman.mean() < 1


@pytest.mark.parametrize(
    "epsilon", [("epsilon.norm=l2",), ("epsilon.norm=linf", "epsilon.stop=0.06", "epsilon.step=0.03")]
)
def test_stored_images_lie_in_ball_and_box(attacked, epsilon) -> None:
    config, rows = attacked("attack.save_images=true", "attack.restarts=2", *epsilon)
    stored = read_tensors(attack_run(config).folder / "images.safetensors")
    assert stored is not None
    perturbed, clean = stored[0]["perturbed"].double(), stored[0]["clean"].double()
    epsilons = stored[0]["epsilons"].tolist()
    assert perturbed.shape == (len(epsilons), 6, 1, 8, 8)
    assert epsilons == sorted(set(rows.epsilon))
    assert (perturbed.min(), perturbed.max()) >= (0, 0)
    assert perturbed.max() <= 1
    images, _, ids = parts_of(config).dataset.test.batch(torch.arange(6), "cpu")
    assert torch.equal(images.double(), clean)
    assert stored[0]["example_id"].tolist() == ids.tolist() == rows.example_id[:6].tolist()
    deltas = (perturbed - clean).flatten(2)
    norms = deltas.norm(dim=2) if config["epsilon"]["norm"] == "l2" else deltas.abs().amax(2)
    assert norms.flatten().tolist() == pytest.approx(rows.perturbation_norm.tolist(), abs=1e-15)
    assert (norms <= torch.tensor(epsilons).unsqueeze(1) * (1 + 1e-6)).all()
    assert norms.max() > 0.5 * epsilons[-1]


def test_images_asked_for_later_come_with_the_same_rows(attacked, compose) -> None:
    config, rows = attacked()
    _, again = attacked("attack.save_images=true")
    equal_rows(rows, again)
    file = attack_run(config).folder / "images.safetensors"
    before = file.stat().st_mtime_ns
    do(compose())
    do(compose("attack.save_images=true"))
    assert file.stat().st_mtime_ns == before


def test_the_chunk_is_memory_only(attacked, tmp_path) -> None:
    _, rows = attacked("attack.chunk=4")
    for chunk in (1, 6):
        _, other = attacked(f"attack.chunk={chunk}", outputs=tmp_path / str(chunk))
        equal_rows(rows, other, rtol=1e-4, atol=1e-5)


def test_more_examples_keep_the_first_ones(attacked) -> None:
    _, few = attacked("examples=4")
    _, more = attacked("examples=8")
    shared = more[more.example_id.isin(set(few.example_id))].reset_index(drop=True)
    drop = ["run_id", "group_id"]
    equal_rows(few.drop(columns=drop), shared.drop(columns=drop))


def test_another_attack_seed_draws_other_noise(attacked) -> None:
    _, first = attacked("attack=random_sign")
    _, second = attacked("attack=random_sign", "attack_seed=1")
    assert not np.array_equal(first.attack_harm, second.attack_harm)
    assert set(first.train_id) == set(second.train_id)


@pytest.mark.parametrize("attack", ["random_sign", "random_ball"])
def test_random_baselines(attacked, attack: str) -> None:
    config, rows = attacked(f"attack={attack}", "attack.draws=3")
    assert rows.label_preserved.all()
    assert (rows.perturbation_norm <= rows.epsilon * (1 + 1e-9)).all()
    assert (np.diff(curves(rows, "attack_harm"), axis=1) >= 0).all()
    assert rows[rows.epsilon == 0.6].topk_intersection.mean() < 1
    result = Folder(attack_run(config).folder).finished()
    assert result is not None
    assert result["twin"] == {"beta": None, "map_cosine": None}


def test_a_weak_budget_leaves_examples_unharmed_and_counts_them(attacked) -> None:
    config, rows = attacked("attack=random_sign", "epsilon.stop=0.002", "epsilon.step=0.001")
    result = Folder(attack_run(config).folder).finished()
    assert result is not None
    assert len(rows) == 18
    assert result["unharmed"] == {"0.001": 1.0, "0.002": 1.0}
    assert (rows.topk_intersection == 1).all()


def test_no_budget(attacked) -> None:
    config, rows = attacked("attack=manipulate_free", "epsilon=unbounded", "attack.steps=6", "attack.step_size=0.01")
    assert sorted(set(rows.epsilon)) == [0.0, float("inf")]
    last = rows[rows.epsilon == float("inf")]
    assert last.label_preserved.all()
    assert 0 < last.perturbation_norm.max() <= 8
    assert json.loads((attack_run(config).folder / "result.json").read_text())["epsilons"] == [0.0, None]


def test_a_softplus_model_is_attacked_itself(attacked) -> None:
    config, rows = attacked("model.activation=softplus", "attack.beta=null")
    result = Folder(attack_run(config).folder).finished()
    assert result is not None
    assert result["twin"] == {"beta": None, "map_cosine": None}
    assert rows[rows.epsilon == 0.6].topk_intersection.mean() < 0.9


def test_attributions_of_one_model_share_it(attacked) -> None:
    first, _ = attacked()
    file = train_run(first).folder / "model.safetensors"
    before = file.stat().st_mtime_ns
    second, _ = attacked("attribution=input_x_gradient")
    assert train_run(second).folder == train_run(first).folder
    assert file.stat().st_mtime_ns == before
    assert attack_run(second).folder != attack_run(first).folder


def test_a_failed_training_fails_the_attack_with_the_same_reason(compose) -> None:
    config = compose("training.optimizer=sgd", "training.learning_rate=1e12")
    with pytest.raises(DivergedError):
        do(config)
    for run in (attack_run(config), train_run(config)):
        result = Folder(run.folder).result()
        assert result is not None
        assert (result["status"], result["job"]) == ("failed", run.job.name)
        assert result["error"].startswith("DivergedError: loss is nan")


def test_two_processes_started_together_train_once(compose, monkeypatch, tmp_path) -> None:
    real = Trainer.epoch

    def epoch(self: Any, number: int) -> dict[str, float]:
        with open(tmp_path / "epochs", "a") as file:
            file.write(f"{number}\n")
        return real(self, number)

    monkeypatch.setattr(Trainer, "epoch", epoch)
    configs = [compose("training.epochs=20"), compose("training.epochs=20", "attribution=input_x_gradient")]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=do, args=(config,)) for config in configs]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert all(Folder(attack_run(config).folder).finished() for config in configs)
    assert (tmp_path / "epochs").read_text().split() == [str(number) for number in range(20)]
