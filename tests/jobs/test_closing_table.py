"""What `python run.py` prints last: its own numbers, read back from its files."""

import pandas as pd
import pytest
from running import attack_run, do, run_of

from runner.core.errors import StoreError
from runner.jobs.closing_table import MOST_BUDGETS, _spread, show_numbers


def test_an_attack_ends_with_its_means(compose, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    config = compose("job=attack", "metrics=[topk_intersection,spearman]")
    result, run = do(config), attack_run(config)
    show_numbers(run, result)
    printed = capsys.readouterr().out
    means = pd.read_parquet(run.folder / "rows.parquet").groupby("epsilon")[["topk_intersection", "spearman"]].mean()
    lines = [line.split() for line in printed.splitlines()]
    for epsilon, row in means.iterrows():
        assert [f"{epsilon:g}", *(f"{value:.3f}" for value in row)] in lines
    assert str(run.folder) in printed
    assert max(map(len, printed.splitlines()[:8])) <= 120


def test_many_budgets_are_spread() -> None:
    shown = _spread([number / 100 for number in range(101)])
    assert (len(shown), shown[0], shown[-1]) == (MOST_BUDGETS, 0.0, 1.0)


def test_one_seed_has_no_interval(compose, capsys: pytest.CaptureFixture[str], no_reports: None) -> None:
    config = compose("job=evaluate", "seeds=[0]", "metrics=[topk_intersection]")
    result, run = do(config), run_of(config)
    show_numbers(run, result)
    printed = capsys.readouterr().out
    means = pd.read_parquet(run.folder / "summary.parquet").set_index("epsilon")["mean"]
    lines = [line.split() for line in printed.splitlines()]
    assert all([f"{epsilon:g}", f"{mean:.3f}"] in lines for epsilon, mean in means.items())
    assert "±" not in printed
    assert "topk intersection ↑" in " ".join(printed.split())
    assert run.built == {}, "directions are read, not built"


def test_a_torn_table_names_the_file_and_the_way_out(compose) -> None:
    config = compose("job=attack", "metrics=[topk_intersection,spearman]")
    result, run = do(config), attack_run(config)
    rows = run.folder / "rows.parquet"
    for damage, why in ((lambda: pd.DataFrame({"epsilon": [0.0]}).to_parquet(rows), "spearman"), (rows.touch, "")):
        damage()
        with pytest.raises(StoreError, match=rf"^{rows}: cannot be read \([^\n]*{why}.*to make its run again: python"):
            show_numbers(run, result)
        rows.unlink()
