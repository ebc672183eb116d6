"""A torn file of a finished run names the file and a command that makes its run again."""

import shlex
from pathlib import Path

import pytest

SMALL = (
    *("job=attack", "dataset=digits", "model=mlp", "tracking=none", "training.epochs=1", "examples=4"),
    *("attack.steps=1", "epsilon.stop=0.1", "threads=1"),
)


@pytest.mark.parametrize("garbage", [b"", b"garbage"])
def test_torn_rows_and_models_are_made_again_by_the_command_told(run_py, no_pictures, tmp_path: Path, garbage) -> None:
    small = (*SMALL, f"outputs={tmp_path}")
    assert run_py(*small)[0] == 0
    (rows,), (model,) = tmp_path.glob("attacks/*/rows.parquet"), tmp_path.glob("models/*/model.safetensors")
    for file, line in ((rows, (*small, "job=report", "report.runs=[*-*]")), (model, (*small, "attack_seed=1"))):
        whole = file.read_bytes()
        file.write_bytes(garbage)
        code, _, err = run_py(*line)
        (told,) = (text for text in err.splitlines() if text.startswith("error: "))
        assert (code, told.split(": ")[1]) == (2, str(file))
        words = shlex.split(told.split("to make its run again: ")[1])
        assert words[:2] == ["python", "run.py"]
        assert run_py(*words[2:])[0] == 0
        assert file.read_bytes()[:4] == whole[:4]
