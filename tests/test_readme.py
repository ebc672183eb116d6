"""What the README and the YAML headers promise: their commands compose, their code runs, their links lead somewhere."""

import re
import shlex
import sys
import types
from pathlib import Path

import pandas as pd
import pytest
from composing import ROOT, composed
from PIL import Image
from running import do

from runner.core.config import resolved
from runner.core.errors import ConfigError
from runner.runs.run import Run

README = (ROOT / "README.md").read_text(encoding="utf-8")
YAMLS = sorted(path for path in ROOT.glob("conf/**/*.yaml") if path.parent.name != "help")
FLAGS = {"-m", "--multirun", "--help"}


def commands(text: str) -> list[str]:
    found = re.findall(r"^[#>\s]*(?:\.venv/bin/)?python run\.py([^\n]*)", text, flags=re.MULTILINE)
    lines = [re.split(r"\s+#|\s{4,}\(|`", line)[0].strip() for line in found]
    return [line for line in lines if "attack=flatten" not in line]  # the attack that the README adds


COMMAND_LINE = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
WANDB = (ROOT / "docs" / "wandb.md").read_text(encoding="utf-8")
ALL = sorted(
    {
        line
        for text in (README, COMMAND_LINE, WANDB, *(path.read_text(encoding="utf-8") for path in YAMLS))
        for line in commands(text)
    }
)


def test_the_commands_are_found() -> None:
    assert len(commands(README)) >= 5
    assert len(commands(COMMAND_LINE)) >= 15
    assert len(ALL) >= 40


@pytest.mark.parametrize("line", ALL)
def test_every_command_composes_and_passes_the_checks(line: str, tmp_path: Path) -> None:
    if "dataset=image_folder" in line:
        for name in ("cat/a.png", "dog/b.png"):
            (tmp_path / "photos" / name).parent.mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / "photos" / name)
        line = line.replace("FOLDER", str(tmp_path / "photos"))
    words = [word for word in shlex.split(line) if word not in FLAGS]
    single = [word.split(",")[0] if "," in word and "[" not in word else word for word in words]
    config = resolved(composed(*single, f"outputs={tmp_path}", "tracking=none"))
    if any(word.startswith("hydra.") for word in single):
        composed(*single, hydra_node=True)
    if config["job"]["name"] != "report":
        Run.of(config)


def block(language: str) -> str:
    (code,) = re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
    return code


def test_the_attack_in_ten_lines_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("runner.attacks.flatten")
    monkeypatch.setitem(sys.modules, "runner.attacks.flatten", module)
    exec(compile(block("python"), "README.md", "exec"), module.__dict__)
    import runner.attacks

    monkeypatch.setattr(runner.attacks, "flatten", module, raising=False)
    folder = tmp_path / "conf" / "attack"
    folder.mkdir(parents=True)
    (folder / "flatten.yaml").write_text(block("yaml"), encoding="utf-8")
    small = [
        "dataset=digits",
        "model=mlp",
        "model.widths=[16]",
        "dataset.train_size=200",
        "training.epochs=2",
        "examples=5",
    ]
    overrides = [
        "job=attack",
        "attack=flatten",
        "attack.steps=4",
        "epsilon.step=0.5",
        "tracking=none",
        f"outputs={tmp_path}",
    ]
    do(resolved(composed(*small, *overrides, f"hydra.searchpath=[file://{tmp_path / 'conf'}]")))
    (file,) = tmp_path.glob("attacks/*-flatten-*/rows.parquet")
    distance = pd.read_parquet(file).groupby("epsilon").cosine_distance.mean()
    assert distance[0.0] == pytest.approx(0.0, abs=1e-6)
    assert distance[1.0] > distance[0.5] > 0


def test_code_lines_of_the_attack_are_ten_or_fewer() -> None:
    lines = [line for line in block("python").splitlines() if line.strip()]
    assert len(lines) <= 10


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))], ids=lambda path: path.name
)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_an_unknown_option_in_a_command_would_be_noticed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="defense.epsilon"):
        Run.of(resolved(composed("defense=madry_l2", "defense.epsilon=-1", f"outputs={tmp_path}")))
