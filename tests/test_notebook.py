"""The notebook in docs runs as it is stored, and what it says about its numbers holds."""

import json

import pytest
from composing import ROOT
from notebook import code_cells, execute

FILE = ROOT / "docs" / "notebook.ipynb"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_it_runs_and_its_stored_outputs_are_of_the_same_kind() -> None:
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    again = json.loads(FILE.read_text(encoding="utf-8"))
    names = execute(again)
    kinds = [[output["output_type"] for output in cell["outputs"]] for cell in code_cells(stored)]
    assert kinds == [[output["output_type"] for output in cell["outputs"]] for cell in code_cells(again)]
    assert sum("image/png" in output.get("data", {}) for cell in code_cells(again) for output in cell["outputs"]) == 3
    assert not any(flag["tripped"] for flag in names["found"].flags.values())
    first, second = (curve[curve.epsilon == 0.5].iloc[0] for curve in names["curves"].values())
    assert second.low > first.high, "the intervals at budget 0.5 do not overlap, as the text says"
