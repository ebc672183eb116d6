import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from running import do, parts_of, train_run

from runner.attacking.setup import load_model
from runner.core.errors import ConfigError
from runner.defenses.natural import Natural
from runner.models.weights import load_weights
from runner.runs.parts import Parts
from runner.store.files import read_tensors
from runner.store.folder import Folder
from runner.store.saved_state import write_state
from runner.training.checkpoint import STATE
from runner.training.optimisation import OPTIMIZERS, SCHEDULES, Training
from runner.training.trainer import DivergedError, Trainer


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    read = read_tensors(folder / "model.safetensors")
    assert read is not None
    return read[0]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def history_of(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "history.parquet").drop(columns="seconds")


def interrupt_after(monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    real = Trainer.epoch

    def epoch(self: Any, number: int) -> dict[str, float]:
        if number == epochs:
            raise KeyboardInterrupt
        return real(self, number)

    monkeypatch.setattr(Trainer, "epoch", epoch)


def test_what_a_finished_model_leaves(compose) -> None:
    config = compose("job=train", "defense=madry_l2")
    result = do(config)
    run = train_run(config)
    assert {path.name for path in run.folder.iterdir()} == {
        *("model.safetensors", "config.yaml", "history.parquet", "result.json", "run.log"),
    }
    assert result == Folder(run.folder).finished()
    assert json.loads((run.folder / "result.json").read_text())["status"] == "ok"
    history = pd.read_parquet(run.folder / "history.parquet")
    assert {"epoch", "loss", "adversarial_loss", "test_accuracy", "seconds"} <= set(history.columns)
    assert list(history.epoch) == [0, 1]
    assert result["test_accuracy"] == history.test_accuracy.iloc[-1]
    assert (result["job"], result["epochs"], result["train_examples"], result["test_examples"]) == ("train", 2, 200, 60)
    assert result["seconds_per_epoch"] == pytest.approx(history.seconds.mean())
    assert result["parameters"] == 64 * 16 + 16 + 16 * 10 + 10
    assert (result["train_id"], result["seed"], result["defense"]) == (run.identity, 0, "madry_l2-0.25x7")
    assert set(result["provenance"]) >= {"git", "versions", "host", "slurm", "cpus"}


def test_the_stored_weights_have_the_stored_accuracy(compose) -> None:
    config = compose("job=train", "training.epochs=4")
    result = do(config)
    model, data = load_model(train_run(config)), parts_of(config).dataset
    images, labels, _ = data.test.batch(torch.arange(60), "cpu")
    assert (model(images).argmax(1) == labels).double().mean().item() == result["test_accuracy"] > 0.2
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_finished_model_is_used_without_its_data(compose, monkeypatch) -> None:
    config = compose("job=train")
    first = do(config)

    def untouched(self: Parts) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(Parts, "dataset", property(untouched))
    assert do(config) == first
    with pytest.raises(AssertionError, match="loaded"):
        do(compose("job=train", "seed=1"))


@pytest.mark.parametrize("stop", [0, 1, 3])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_resumed_is_bit_identical(compose, monkeypatch, tmp_path, stop: int, optimizer: str) -> None:
    config = compose("job=train")
    rate = {"adam": 0.01, "sgd": 0.1}[optimizer]
    config["training"] |= {"epochs": 4, "optimizer": optimizer, "learning_rate": rate, "schedule": "cosine"}
    config["training"] |= {"augment": True, "batch_size": 16}
    config["dataset"]["augmentation"] = {"flip": False, "pad": 1}
    undisturbed = {**config, "outputs": str(tmp_path / "undisturbed")}
    do(undisturbed)
    with monkeypatch.context() as patch:
        interrupt_after(patch, stop)
        with pytest.raises(KeyboardInterrupt):
            do(config)
    folder = train_run(config).folder
    assert Folder(folder).result() is None
    done: list[int] = []
    real = Trainer.epoch
    monkeypatch.setattr(Trainer, "epoch", lambda self, number: (done.append(number), real(self, number))[1])
    do(config)
    assert done == list(range(stop, 4))
    other = train_run(undisturbed).folder
    assert folder != other
    assert same(weights_of(folder), weights_of(other))
    pd.testing.assert_frame_equal(history_of(folder), history_of(other), check_exact=True)
    assert not (folder / "scratch").exists()


def test_a_failure_is_recorded_and_tried_again(compose, monkeypatch) -> None:
    config = compose("job=train")
    folder = train_run(config).folder
    with monkeypatch.context() as patch:

        def fail(self: Any, number: int) -> None:
            raise RuntimeError("the disk is full\nsecond line")

        patch.setattr(Trainer, "epoch", fail)
        with pytest.raises(RuntimeError, match="disk is full"):
            do(config)
    result = Folder(folder).result()
    assert result is not None
    assert (result["status"], result["error"]) == ("failed", "RuntimeError: the disk is full")
    assert "in fail" in result["traceback"]
    assert (result["job"], result["seed"], result["train_id"]) == ("train", 0, train_run(config).identity)
    assert not (folder / "model.safetensors").exists()
    assert do(config)["status"] == "ok"


def test_a_diverging_training_fails_with_its_reason(compose) -> None:
    config = compose("job=train", "training.optimizer=sgd", "training.learning_rate=1e12")
    with pytest.raises(DivergedError, match="loss is nan at"):
        do(config)
    result = Folder(train_run(config).folder).result()
    assert result is not None
    assert result["status"] == "failed"
    assert result["error"].startswith("DivergedError: loss is nan at")


def test_bad_data_leaves_no_folder(compose) -> None:
    config = compose("job=train", "dataset.train_size=10000000")
    with pytest.raises(ConfigError, match=r"dataset\.train_size"):
        do(config)
    assert not train_run(config).folder.exists()


def test_without_epochs_the_given_weights_are_the_model(compose, tmp_path: Path) -> None:
    trained = compose("job=train")
    do(trained)
    source = train_run(trained).folder / "model.safetensors"
    config = compose("job=train", "training=none", "training.epochs=0", f"model.weights={source}")
    result = do(config)
    folder = train_run(config).folder
    assert same(weights_of(folder), weights_of(source.parent))
    assert len(pd.read_parquet(folder / "history.parquet")) == 0
    assert (result["epochs"], result["seconds_per_epoch"]) == (0, 0)
    assert result["test_accuracy"] == (Folder(source.parent).finished() or {})["test_accuracy"]


def test_seeds_and_threads(compose, tmp_path: Path) -> None:
    def trained(where: str, *overrides: str) -> dict[str, torch.Tensor]:
        config = {**compose("job=train", *overrides), "outputs": str(tmp_path / where)}
        do(config)
        return weights_of(train_run(config).folder)

    first = trained("a")
    assert same(first, trained("b"))
    assert not same(first, trained("a", "seed=1"))
    assert same(first, trained("c", "sweep=mine"))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimisers_and_schedules_learn(compose, optimizer: str, schedule: str) -> None:
    rate = 0.1 if optimizer == "sgd" else 0.01
    config = compose("job=train")
    config["training"] |= {"optimizer": optimizer, "schedule": schedule, "learning_rate": rate}
    do(config)
    losses = pd.read_parquet(train_run(config).folder / "history.parquet").loss
    assert losses.iloc[1] < losses.iloc[0] < 2.6


def test_rates() -> None:
    def rates(*shares: float, **options: Any) -> list[float]:
        training = Training(learning_rate=1.0, **options)
        return [round(training.rate(share), 12) for share in shares]

    assert rates(0, 0.5, 1, schedule="constant") == [1, 1, 1]
    assert rates(0, 0.49, 0.5, 0.75, 1, schedule="step") == [1, 1, 0.1, 0.01, 0.01]
    assert rates(0, 0.5, 1, schedule="cosine") == [1, 0.5, 0]
    assert rates(0, 0.15, 0.3, 0.65, 1, schedule="one_cycle") == [0.04, 0.52, 1, 0.5, 0]


def test_the_batch_order_is_new_each_epoch_and_the_seed_decides(compose, tmp_path: Path) -> None:
    config = compose("job=train")
    data = parts_of(config).dataset
    trainers = [
        Trainer({**config, "seed": seed}, Training(), Natural(), data, parts_of(config).new_model(), tmp_path / "batch")
        for seed in (0, 1)
    ]
    orders = [trainer._order(epoch) for trainer in trainers for epoch in (0, 1)]
    assert all(torch.equal(order.sort().values, torch.arange(200)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 4


def test_load_weights_refuses_another_model(compose) -> None:
    config = compose("job=train")
    do(config)
    other = parts_of(compose("model.widths=[17]")).new_model()
    with pytest.raises(ConfigError, match="does not fit this model"):
        load_weights(other, train_run(config).folder / "model.safetensors")


def test_a_state_that_lacks_something_is_no_state(compose, caplog) -> None:
    config = compose("job=train", "training.epochs=1")
    file = train_run(config).folder / "scratch" / STATE
    write_state(file, {"model": {}, "history": [{"epoch": 0.0}]})
    result = do(config)
    assert result["epochs"] == 1
    assert f"{file} lacks average, defense, optimizer: its work starts from the beginning" in caplog.text
