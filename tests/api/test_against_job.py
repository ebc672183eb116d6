"""The functions for Python give the numbers of the jobs, to the last bit."""

from typing import Any

import pandas as pd
import pytest
import torch
from running import as_job, do, parts_of, run_of, train_run

from runner.api import attack, compare, evaluate, explain
from runner.attacking.setup import load_model

ALL = ("examples=null", "dataset.test_size=6", "attack.save_images=true")
STOCHASTIC = ("attribution=smoothgrad", "attribution.samples=4")


@pytest.fixture(autouse=True)
def _quick(no_pictures: None) -> None:
    """Attacks without pictures."""


def _model_and_images(config: dict[str, Any]) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor, torch.Tensor]:
    test = parts_of(config).dataset.test
    return load_model(train_run(config)), *test.batch(range(len(test)), "cpu")


@pytest.mark.parametrize(
    ("overrides", "options"),
    [
        ((), {"attack": "topk", "steps": 3}),
        (
            (*STOCHASTIC, "attack=query_square", "attack.queries=5", "metrics.common_noise=true"),
            {
                **{"attribution": "smoothgrad", "attribution_options": {"samples": 4}},
                **{"attack": "query_square", "queries": 5, "common_noise": True},
            },
        ),
    ],
)
def test_rows_and_images_equal_those_of_the_job(compose, overrides, options) -> None:
    config = compose(*ALL, *overrides)
    do(config)
    rows = pd.read_parquet(run_of(config).folder / "rows.parquet")
    model, images, labels, ids = _model_and_images(config)
    found = attack(
        *(model, images.numpy(), labels.numpy()),
        **options,
        **{"epsilons": (0.2, 0.4, 0.6), "k": config["metrics"]["k"], "chunk": 4, "ids": ids, "seed": 0},
    )
    same = [name for name in rows if name in found.rows and name not in ("model", "attack", "attribution")]
    assert {"example_id", "norm", "label", "clean_correct", "perturbation_norm", "attack_harm"} <= set(same)
    assert set(found.metrics) < set(same)
    pd.testing.assert_frame_equal(rows[same], found.rows[same], check_exact=True)

    stored = pytest.importorskip("safetensors.torch").load_file(run_of(config).folder / "images.safetensors")
    assert torch.equal(found.images, stored["perturbed"])


def test_compare_of_explained_images_gives_the_metrics_of_the_attack(compose) -> None:
    config = compose("dataset.test_size=6")
    do(as_job(config, "train"))
    model, images, _, ids = _model_and_images(config)
    found = attack(model, images, epsilons=[0.5], steps=3, chunk=6, ids=ids)
    predicted = found.rows.clean_prediction[:6].to_numpy()
    clean, moved = (explain(model, stack, predicted, ids=ids) for stack in (images, found.images[1]))
    metrics = compare(clean, moved)
    expected = found.rows.loc[found.rows.epsilon == 0.5, list(found.metrics)].reset_index(drop=True)
    pd.testing.assert_frame_equal(metrics, expected, check_exact=True)
    assert "label" not in found.rows
    assert "clean_correct" not in found.rows


def test_evaluate_gives_the_intervals_of_the_job_over_its_seeds(compose, no_reports: None) -> None:
    config = compose("job=evaluate", "seeds=[0,1]", *ALL)
    do(config)
    summary = pd.read_parquet(run_of(config).folder / "summary.parquet")
    both = [_model_and_images({**config, "seed": seed}) for seed in (0, 1)]
    (_, images, labels, ids) = both[0]
    found = evaluate(
        [model for model, *_ in both],
        *(images, labels),
        **{
            "attack": "topk",
            "steps": 3,
            "epsilons": (0.2, 0.4, 0.6),
            "k": config["metrics"]["k"],
            "chunk": 4,
            "ids": ids,
        },
    )
    numbers = ["epsilon", "metric", "mean", "low", "high", "n_seeds", "n_examples", "q50", "label_preserved"]
    pd.testing.assert_frame_equal(summary[numbers], found[numbers], check_exact=True)
    assert set(found.n_seeds) == {2}
