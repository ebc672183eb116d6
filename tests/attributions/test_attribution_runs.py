"""Attributions in jobs: training images for those that compare with some, and refusals of those without a gradient."""

import numpy as np
import pandas as pd
import pytest
from running import attack_run, do

from runner.core.errors import ConfigError
from runner.runs.run import Run

RUNS = [
    ("expected_gradients", "topk", ["attribution.samples=4", "attribution.references=20"]),
    ("kernel_shap", "random_sign", ["attribution.samples=64", "attack.measure=cosine_distance"]),
]


@pytest.mark.parametrize(("name", "attack", "own"), RUNS, ids=[run[0] for run in RUNS])
def test_an_attack_runs_to_its_end(name, attack, own, compose):
    config = compose(f"attribution={name}", f"attack={attack}", *own)
    Run.of(config)
    do(config)
    rows = pd.read_parquet(attack_run(config).folder / "rows.parquet")
    assert len(rows) == 24
    assert set(rows.attribution) == {name}
    assert rows.label_preserved.all()
    assert (rows.perturbation_norm <= rows.epsilon * (1 + 1e-6) + 1e-9).all()
    harm = rows.pivot_table(index="example_id", columns="epsilon", values="attack_harm").to_numpy()
    assert (np.diff(harm, axis=1) >= 0).all()
    assert (harm[:, -1] > harm[:, 0]).any()
    assert rows[[*("topk_intersection", "spearman", "kendall", "cosine_distance")]].notna().all(axis=None)


@pytest.mark.parametrize(("name", "attack"), [("occlusion", "topk"), ("kernel_shap", "manipulate")])
def test_a_map_without_gradient_is_refused_to_gradient_attacks(name, attack, compose):
    config = compose(f"attribution={name}", f"attack={attack}")
    with pytest.raises(ConfigError) as error:
        Run.of(config)
    told = str(error.value)
    assert told.startswith(
        f"attack={attack}: attribution={name} has no gradient; choose an attack that needs no gradient"
    )
    assert "\n" not in told


def test_the_command_line_refuses_it_in_one_line(run_py, tmp_path):
    code, _, told = run_py("job=attack", "attribution=occlusion", "attack=topk", f"outputs={tmp_path}", "device=cpu")
    assert code != 0
    assert "attribution=occlusion has no gradient" in told
    assert len(told.strip().splitlines()) == 1


def test_more_references_than_training_images_are_refused(compose):
    config = compose("attribution=expected_gradients", "attribution.references=201")
    with pytest.raises(ConfigError, match=r"^attribution\.references=201: must be at most the 200 training images"):
        do(config)
