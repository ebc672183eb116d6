"""A progress bar in a narrow terminal: the texts give way, the bar, the count and the times stay."""

import io
import re

import pytest
from rich.console import Console

from runner.core.progress import bar


@pytest.mark.parametrize("width", [60, 80, 200])
def test_bar_count_and_time_stay_whole(width: int) -> None:
    console = Console(width=width, force_terminal=True, color_system=None, file=io.StringIO())
    with bar(console) as shown:
        shown.add_task(
            "topk on integrated_gradients, madry_l2 seed 10", total=1100, completed=345, text="epsilon 0.45: " * 9
        )
    line = re.sub(r"\x1b\[\??\d*\w", "", console.file.getvalue()).split("\r")[-1].rstrip("\n")
    assert "━ " in line
    assert "345/1100 0:00:00 left -:--:--" in line
    assert len(line) <= width
