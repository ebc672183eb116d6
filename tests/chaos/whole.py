"""Whether a file is whole, and whether a finished run has the numbers of an undisturbed one."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import yaml
from safetensors import safe_open

from runner.store.saved_state import load_plain


def same_numbers(path: Path, expected: Path) -> None:
    """A finished run has what the undisturbed one has, to the last bit."""
    kind = expected.parent.name
    if kind == "models":
        assert (path / "model.safetensors").read_bytes() == (expected / "model.safetensors").read_bytes()
        return
    name = "rows.parquet" if kind == "attacks" else "summary.parquet"
    found, wanted = (pd.read_parquet(folder / name) for folder in (path, expected))
    pd.testing.assert_frame_equal(found, wanted, check_exact=True)


def facts(file: Path) -> tuple[int, int, int]:
    """What changes when a file is written anew."""
    status = file.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _tensors(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118
            file.get_tensor(name)


def _ends(mark: bytes) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        assert path.read_bytes().rstrip().endswith(mark), f"{path} is torn"

    return read


READERS: dict[str, Callable[[Path], object]] = {
    ".json": lambda path: json.loads(path.read_text()),
    ".parquet": pd.read_parquet,
    ".safetensors": _tensors,
    ".pt": load_plain,
    ".yaml": lambda path: None if path.name == "multirun.yaml" else yaml.safe_load(path.read_text()),  # that is Hydra's
    ".png": _ends(b"IEND\xaeB`\x82"),
    ".svg": _ends(b"</svg>"),
    ".html": _ends(b"</html>"),
}
"""What fails on a file that is not whole, by its ending."""
