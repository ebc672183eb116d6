"""Certificates in jobs: the columns, the verdict of evaluate, the alarm, the refusals."""

from pathlib import Path

import pandas as pd
import pytest
from running import attack_run, do, evaluate_run

from runner.core.errors import ConfigError
from runner.runs.run import Run
from runner.stats.claims import Claim, summary

SPARSE = (
    "attribution=sparsified_smoothgrad",
    "attribution.samples=200",
    "attribution.sigma=0.25",
    "attribution.tau=0.125",
)
SMALL = ("metrics=[topk_intersection,cosine_distance]", "epsilon.stop=0.1", "epsilon.step=0.05")
CHOICES = {
    "levine_topk": (*SPARSE, "certificate.samples=1000"),
    "first_order": ("certificate.iterations=3",),
}


@pytest.mark.parametrize("name", sorted(CHOICES))
def test_rows_carry_the_certificate_and_its_note_and_no_attack_beats_it(compose, name: str) -> None:
    config = compose("job=attack", f"certificate={name}", *CHOICES[name], *SMALL)
    claim = Claim.read(do(config))
    rows = pd.read_parquet(attack_run(config).folder / "rows.parquet")
    assert rows["certificate"].notna().all()
    steps = rows.sort_values("epsilon").groupby("example_id")["certificate"].diff().dropna()
    assert (steps <= 0).all() or (steps >= 0).all()
    assert claim is not None
    found = summary(rows, claim)
    if name == "first_order":
        assert found is None
        return
    (note,) = (column for column in rows if column.startswith("certificate_"))
    assert rows[note].nunique() > 1
    assert found is not None
    assert found["beaten"] is False
    assert found["violations"] == 0


def test_a_false_certificate_is_found_out(compose, caplog) -> None:
    config = compose("job=evaluate", "certificate=first_order", *SMALL, "epsilon.stop=0.8", "epsilon.step=0.8")
    config["certificate"] = {"name": "too_good", "_target_": "false_certificate.FalseCertificate"}
    found = do(config)["certificate_violations"]
    assert found["beaten"] is True
    assert (found["certificate"], found["confidence"], found["epsilon"]) == ("too_good", 0.95, 0.8)
    assert found["violations"] > 3
    assert found["p_value"] < 1e-3
    assert found["by_epsilon"]["0"] == 0
    assert "An attack beat the certificate too_good" in caplog.text
    page = (evaluate_run(config).folder / "index.html").read_text()
    assert "<strong>Certificate violated.</strong>" in page


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("certificate=levine_topk",), "says nothing about the attribution Saliency; it is about SparsifiedSmoothGrad"),
        (("certificate=levine_topk", *SPARSE, "epsilon=linf_255"), "epsilon.norm=linf: must be l2"),
        (("certificate=first_order", "certificate.bounds=l2_ratio"), "metrics: must have l2_ratio"),
    ],
)
def test_what_cannot_be_certified_is_refused_before_any_work(compose, overrides: tuple[str, ...], message: str) -> None:
    config = compose(*overrides)
    with pytest.raises(ConfigError) as caught:
        Run.of(config)
    assert message in str(caught.value)
    assert not list(Path(config["outputs"]).glob("attacks/*"))
