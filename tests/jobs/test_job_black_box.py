"""Black-box attacks end to end: in the ball, the label kept, their queries in the rows, with and without gradients."""

import numpy as np
import pandas as pd
import pytest
from running import attack_run, do

from runner.attacking.chunk import Chunk

FEW = {
    "query_nes": ("attack=query_nes", "attack.queries=14", "attack.pairs=3"),
    "query_square": ("attack=query_square", "attack.queries=12"),
    "one_step": ("attack=one_step", "attack.measure=cosine_distance"),
}
SPENT = {"query_nes": (1, 14), "query_square": (1, 12), "one_step": (2, 1)}
LINF = ("epsilon.norm=linf", "epsilon.stop=0.06", "epsilon.step=0.02")


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("attack", FEW)
def test_ball_label_and_monotone_harm(attacked, attack: str, norm: str) -> None:
    config, rows = attacked(*FEW[attack], *(LINF if norm == "linf" else ()))
    assert set(rows.attack) == {config["attack"]["name"]}
    clean, last = rows[rows.epsilon == 0], rows[rows.epsilon == rows.epsilon.max()]
    assert (clean.perturbation_norm == 0).all()
    assert clean.topk_intersection.to_numpy() == pytest.approx(1)
    assert rows.label_preserved.all()
    assert (rows.perturbation_norm <= rows.epsilon * (1 + 1e-9)).all()
    harm = rows.pivot_table(index="example_id", columns="epsilon", values="attack_harm").to_numpy()
    assert (np.diff(harm, axis=1) >= 0).all()
    assert last.attack_harm.mean() > clean.attack_harm.mean() + 1e-3
    start, each = SPENT[attack]
    for step, (_, part) in enumerate(rows.groupby("epsilon")):
        assert set(part.attack_queries) == {start + step * each}


@pytest.mark.parametrize("attack", FEW)
def test_maps_without_a_gradient(attacked, attack: str) -> None:
    _, rows = attacked(*FEW[attack], "attribution=occlusion")
    last = rows[rows.epsilon == 0.6]
    assert last.label_preserved.all()
    assert last.cosine_distance.mean() > 1e-3


@pytest.mark.parametrize("attack", FEW)
def test_the_chunk_is_memory_only(attacked, tmp_path, attack: str) -> None:
    _, rows = attacked(*FEW[attack])
    _, other = attacked(*FEW[attack], "attack.chunk=5", outputs=tmp_path / "other")
    pd.testing.assert_frame_equal(rows, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attack", FEW)
def test_stopped_between_two_steps_it_goes_on(attacked, compose, monkeypatch, tmp_path, attack: str) -> None:
    overrides = (*FEW[attack], "attribution=smoothgrad", "attribution.samples=3")
    _, undisturbed = attacked(*overrides, outputs=tmp_path / "undisturbed")
    config, taken, step = compose(*overrides), [], Chunk.step

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
