"""What a computation holds at once, and what the machine has."""

from pathlib import Path

import pytest
import torch

from runner.core.memory_use import _group_limits, peak_bytes, total_bytes

MIB = 2**20


def chain() -> None:
    values = torch.ones(MIB)  # 4 MiB, as each result
    more = values + 1
    del values
    torch.sub(more, 1).mul_(2)


def gradient_of_gradient() -> None:
    leaf = torch.ones(MIB).requires_grad_()
    (slope,) = torch.autograd.grad(leaf.square().sum(), leaf, create_graph=True)
    del slope


def test_peaks_are_those_of_living_tensors() -> None:
    assert peak_bytes(chain) == 8 * MIB
    assert peak_bytes(lambda: [torch.ones(MIB) for _ in range(3)]) == 12 * MIB
    assert peak_bytes(lambda: torch.ones(MIB).reshape(4, -1).T) == 4 * MIB  # views hold nothing
    assert peak_bytes(gradient_of_gradient) >= 12 * MIB
    assert peak_bytes(chain) == 8 * MIB  # nothing is left over


@pytest.mark.parametrize(
    ("line", "files"),
    [
        ("0::/jobs/one", {"jobs/one/memory.max": "max", "jobs/memory.max": "3000", "memory.max": "9000"}),
        ("4:memory:/jobs/one", {"memory/jobs/one/memory.limit_in_bytes": "3000"}),
        ("3:cpu:/\n0::/", {"memory.max": "3000"}),
    ],
)
def test_the_limit_of_an_outer_group_counts(tmp_path: Path, line: str, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    (tmp_path / "cgroup").write_text(line + "\n")
    assert min(_group_limits(tmp_path / "cgroup", tmp_path)) == 3000
    assert list(_group_limits(tmp_path / "absent", tmp_path)) == []


def test_a_machine_has_memory() -> None:
    assert 2**28 < total_bytes(torch.device("cpu")) < 2**50
