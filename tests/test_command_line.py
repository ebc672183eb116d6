"""The command line: bad input gets one clear line and leaves nothing; the rest works from anywhere."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from composing import ROOT

from runner.store.folder import Folder

SMALL = (
    *("dataset=digits", "model=mlp", "tracking=none", "training.epochs=1", "examples=4", "attack.steps=1"),
    *("epsilon.stop=0.1", "threads=1"),
)
ATTACK = ("job=attack", *SMALL)

BAD = [
    # unknown keys and choices, at each level
    ("foo=1", r"foo: no such key; allowed here are attack, "),
    ("+foo=1", r"foo: no such key; allowed here are attack, "),
    ("attack.stpes=1", r"attack.stpes: no such key; allowed here are beta, |(did you mean steps?)"),
    ("+attack.foo=1", r"attack.foo: no such key; allowed here are beta, "),
    ("+attack.objective.foo=1", r"attack.objective.foo: no such key; allowed here are k, temperature"),
    ("+model.foo=1", r"model.foo: no such key; allowed here are activation, "),
    ("+training.foo=1", r"training.foo: no such key; allowed here are augment, "),
    ("+dataset.foo=1", r"dataset.foo: no such key; allowed here are download, "),
    ("+metrics.foo=1", r"metrics.foo: no such key; allowed here are common_noise, "),
    ("attack=tpok", r"attack/tpok|manipulate manipulate_free mass_center|random_ball random_sign"),
    ("job=trian", r"job/trian|attack evaluate report train"),
    (
        "metrics=[nope]",
        r"metrics/nope|cosine_distance infidelity kendall|spearman ssim topk_diversity topk_intersection",
    ),
    ("attack=null", r"attack=null: must be one of cosine, label_pgd, "),
    ("defense=nan", r"defense=nan: must be one of art, "),
    ("metrics=[1]", r"metrics=[1]: must be one of cosine_distance, "),
    ("-m attack=topk,1", r"attack=topk,1: must be one of cosine, "),
    ("attack.steps=$(x", r"attack.steps=$(x: cannot be read; quote text with such characters"),
    ("-m +sweeps=1", r"sweeps=1: must be one of adversarial_training_l2, "),
    ("+sweeps=typo", r"sweeps/typo|adversarial_training_l2 all_defenses|quickstart ssr_alpha"),
    ("attack._target_=nope.Nope", r"attack._target_=nope.Nope: cannot be imported"),
    ("defense._target_=runner.training.optimisation.Training", r"defense._target_=|must be Defense"),
    # out of range
    ("epsilon.start=-0.1", r"epsilon.start=-0.1: must be at least 0"),
    ("epsilon.step=0.03", r"epsilon.step=0.03: must be a divisor of stop - start = 0.1"),
    ("epsilon.values=[0.1] epsilon.stop=0.5", r"epsilon.stop=0.5: must be left out, as the budgets of epsilon.values"),
    ("epsilon.start=0 epsilon.values=[0.1,0.2]", r"epsilon.start=0: must be left out, as the budgets of"),
    ("attack=sparse epsilon=l0_pixels", r"epsilon.stop=0.1: must be left out, as the budgets of"),
    ("-m seed=0,1 epsilon.values=[0.1] epsilon.step=0.1", r"epsilon.step=0.1: must be left out, as the budgets of"),
    ("epsilon.norm=l3", r"epsilon.norm=l3: allowed are l0, l2, linf, spatial"),
    ("metrics.k=65", r"metrics.k=65: must be a whole number from 1 to the 64 pixels of an image"),
    ("seeds=[]", r"seeds=[]: must be a list of different whole numbers"),
    ("seeds=[1,1]", r"seeds=[1, 1]: must be a list of different"),
    ("seed=-1", r"seed=-1: must be a whole number of at least 0"),
    ("examples=1000", r"examples=1000: must be at most the 359 examples"),
    ("threads=0", r"threads=0: must be a whole number of at least 1"),
    ("attribution=smoothgrad attribution.samples=0", r"attribution.samples=0: must be at least 1"),
    ("defense=madry_l2 defense.epsilon=-1", r"defense.epsilon=-1: must be at least 0"),
    ("training.optimizer=lion", r"training.optimizer=lion: allowed are adam, adamw, sgd"),
    ("training.schedule=foo", r"training.schedule=foo: allowed are constant, cosine, one_cycle, step"),
    ("model.activation=tanh", r"model.activation=tanh: allowed are relu, softplus"),
    ("metrics.reduction=bogus", r"metrics.reduction=bogus: allowed are abs_max, abs_sum, sum, sum_abs"),
    ("attack.measure=nope", r"attack.measure=nope: allowed are cosine_distance, kendall, mass_center_shift, objective"),
    ("tracking.mode=bogus", r"tracking.mode=bogus: allowed are disabled, offline, online"),
    ("+tracking.foo=1", r"tracking.foo: no such key; allowed here are dir, entity"),
    ("attack.chunk=0", r"attack.chunk=0: must be a whole number of at least 1"),
    # what does not fit together, or is not there
    ("attack.beta=null", r"attack.beta=null: topk_overlap needs second-order gradients"),
    (
        "epsilon.values=[inf]",
        r"epsilon.values=inf: must be finite unless attack.update=adam",
    ),
    ("dataset=cifar10 dataset.root=/nowhere", r"dataset.root=/nowhere: "),
    ("dataset=image_folder dataset.root=/nowhere", r"dataset.root=/nowhere: no such folder or archive"),
    ("model.weights=/nowhere.pt", r"model.weights=/nowhere.pt: must be the path of an existing file"),
    ("device=meta", r"device=meta: must be auto, cpu, cuda or cuda:N"),
    ("outputs=/dev/null/x", r"outputs=/dev/null/x: must be a folder that can be written"),
    ("job=report", r"report.sweep=null: must name a sweep"),
    ("job=report report.sweep=nope", r"report.sweep=nope: must be a sweep that was run|holds none"),
    # the wrong type
    ("attack.steps=abc", r"attack.steps=abc: must be a whole number"),
    ("attack.steps=1.5", r"attack.steps=1.5: must be a whole number"),
    ("attack.beta=abc", r"attack.beta=abc: must be a number or null"),
    ("epsilon.step=abc", r"epsilon.step=abc: must be a number such as 0.1 or 8/255"),
    ("defense=madry_l2 defense.epsilon=abc", r"defense.epsilon=abc: must be a number such as 0.1 or 8/255"),
    ("training.epochs=two", r"training.epochs=two: must be a whole number"),
    ("training.milestones=abc", r"training.milestones=abc: must be a list, each item a number"),
    ("training.augment=maybe", r"training.augment=maybe: must be true or false"),
    ("model.widths=abc", r"model.widths=abc: must be a list, each item a whole number"),
    ("seed=abc", r"seed=abc: must be a whole number of at least 0"),
    ("seeds=[[1],[2]]", r"seeds=[[1], [2]]: must be a list of different whole numbers"),
    ("attack_seed=abc", r"attack_seed=abc: must be a whole number of at least 0"),
    ("dataset.shape=8", r"dataset.shape=8: must be a list of three whole numbers"),
    ("attack.save_images=maybe", r"attack.save_images=maybe: must be true or false"),
    # not finite, too large, left out
    ("training.learning_rate=1e400", r"training.learning_rate=inf: must be a finite number"),
    ("training.gamma=nan", r"training.gamma=nan: must be a finite number"),
    ("model.std=[inf]", r"model.std.0=inf: must be a finite number"),
    ("attack.beta=inf", r"attack.beta=inf: must be a finite number"),
    ("seed=1764057299123456789", r"seed=1764057299123456789: must be a whole number of at most 1000000000000"),
    ("seeds=[99999999999999999999]", r"seeds.0=99999999999999999999: must be a whole number of at most"),
    ("dataset.seed=-1", r"dataset.seed=-1: must be a whole number of at least 0"),
    ("threads=100000", r"threads=100000: must be at most 1024"),
    ("~defense", r"defense: cannot be left out"),
    ("~dataset", r"dataset: cannot be left out"),
    ("~attack.chunk", r"attack.chunk: cannot be left out"),
    ("~dataset.name", r"dataset.name: cannot be left out"),
    ("~model._target_", r"model._target_: cannot be left out"),
    ("~attack.measure", r"attack.measure: cannot be left out"),
    ("~seed", r"seed: cannot be left out"),
    ("metrics.measured=null", r"metrics.measured=None: must be options of the group"),
    ("tracking.project=a/b", r"tracking.project=a/b: must be the name of a project"),
    ("defense.epsilon=ünïcode", r"defense.epsilon=ünïcode: cannot be read"),
    ("dataset=cifar10_folder dataset.root=/etc", r"dataset.root=/etc: "),
    ("job=report report.runs=7", r"report.runs=7: must be a folder"),
    ("epsilon.values=[]", r"epsilon.values=[]: must be a list of at least one budget"),
    # values of no meaning, at keys that are read late or by nobody
    ("training._target_=[1]", r"training._target_=[1]: must be the name of a class or function"),
    ("training._target_=abc", r"training._target_=abc: must be a class or a function, not of type module"),
    ("+attack.objective._partial_=1", r"attack.objective._partial_=1: must be true or false"),
    ("attack.name=[a]", r"attack.name=['a']: must be a name"),
    ("dataset.name=''", r"dataset.name=: must be a name"),
    ("training.gamma=-1", r"training.gamma=-1: must be above 0 and at most 1"),
    ("training.learning_rate=1e30", r"training.learning_rate=1e+30: must be a number of at most 1000000000000 (10^12)"),
    ("metrics.reduction=[]", r"metrics.reduction=[]: allowed are abs_max"),
    ("dataset.top_k=abc", r"dataset.top_k=abc: must be a whole number from 1 to the 64 pixels"),
    ("dataset.classes=-1", r"dataset.classes=-1: must be a whole number of at least 2"),
    ("dataset.train_size=abc", r"dataset.train_size=abc: must be a whole number or null"),
    ("dataset.download=1", r"dataset.download=1: must be true or false"),
    ("dataset.augmentation.pad=-1", r"dataset.augmentation.pad=-1: must be a whole number of at least 0"),
    ("dataset.augmentation=1", r"dataset.augmentation=1: must be {flip: true or false, pad: PIXELS}"),
    ("model.weights=[]", r"model.weights=[]: must be the path of a file"),
    ("model.shape=[]", r"model: its values cannot be used (IndexError: "),
    ("attack.objective=null", r"attack.objective=None: must be an option with a _target_: Objective"),
    ("defense=madry_l2 defense.attack=abc", r"defense.attack=abc: must be an option with a _target_: a function"),
    ("defense=composite defense.terms=1", r"defense.terms=1: must be a mapping of names"),
    ("attribution=integrated_gradients attribution.baseline=-1", r"attribution.baseline=-1: must be in [0, 1]"),
    ("+certificate.name=a", r"certificate={'name': 'a'}: must be one of its options"),
    ("certificate=first_order certificate.twin=abc", r"certificate.twin=abc: must be an option with a _target_"),
    ("job.name=abc", r"job.name=abc: allowed are attack, evaluate, report, train"),
    ("job._target_=abc", r"job._target_=abc: must be runner.jobs.attack.run for job=attack"),
    ("report=1", r"report"),
    ("job=report report.sweep=[1]", r"report.sweep=[1]: must be a name"),
    ("job=report report.runs=[]", r"report.runs=[]: must be a folder, or a list of folders"),
    ("hydra/launcher=1", r"hydra/launcher=1: must be the name of one of its options"),
    ("hydra=null", r"hydra=null: must be the name of one of its options"),
    ("hydra.launcher=1", r"hydra.launcher=1: must be its settings, as hydra.launcher.KEY=VALUE"),
    # sweeps
    ("-m seed=0,1 hydra.sweeper.max_batch_size=0", r"hydra.sweeper.max_batch_size=0: must be at least 1, or null"),
    ("-m seed=0,1 +hydra.sweeper.zipped.a=1", r"hydra.sweeper.zipped.a=1: must be a list of mappings"),
    ("-m seed=0,1 hydra/launcher=slurm hydra.launcher.mem_gb=0", r"hydra.launcher.mem_gb=0: must be at least 1"),
    ("tracking=none -m +sweeps=typo", r"sweeps/typo|quickstart ssr_alpha"),
    ("-m seed=0,1 attack.steps=0", r"attack.steps=0: must be at least 1"),
    ("-m seed=0,1 hydra.launcher.processes=0", r"hydra.launcher.processes=0: must be at least 1, or null"),
    ("-m seed=0,1 sweep=../../x", r"sweep=../../x: must be a name of letters, digits and ._-"),
]


def runs_in(outputs: Path) -> list[str]:
    return [path.name for kind in ("attacks", "models", "evaluations") for path in outputs.glob(f"{kind}/*-*")]


def split(line: str, base: Sequence[str], outputs: Path) -> list[str]:
    words = line.split()
    first = words[:1] if words[0] == "-m" else []
    if "epsilon.values" in line:
        base = [word for word in base if not word.startswith("epsilon.stop")]
    return [*first, *base, f"outputs={outputs}", *words[len(first) :]]


@pytest.mark.parametrize(("line", "told"), BAD, ids=[line for line, _ in BAD])
def test_bad_input_gets_one_line_and_leaves_nothing(run_py, tmp_path: Path, line: str, told: str) -> None:
    code, _, err = run_py(*split(line, ATTACK, tmp_path))
    assert code in (1, 2)
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    for part in told.split("|"):
        assert part in lines[0]
    assert runs_in(tmp_path) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(run_py, tmp_path: Path) -> None:
    code, _, err = run_py(*split("device=cuda", ATTACK, tmp_path))
    assert (code, err) == (2, "error: device=cuda: must be auto or cpu: this machine has no usable GPU\n")


def test_evaluations_refuse_before_any_seed_too(run_py, tmp_path: Path) -> None:
    code, _, err = run_py("job=evaluate", *SMALL, f"outputs={tmp_path}", "model.weights=/nowhere.pt")
    assert code == 2
    assert err.startswith("error: model.weights=/nowhere.pt")
    assert runs_in(tmp_path) == []


def test_the_good_line_that_the_bad_ones_are_made_of(run_py, tmp_path: Path) -> None:
    code, _, err = run_py(*ATTACK, f"outputs={tmp_path}")
    assert code == 0, err
    assert "attack is done" in err
    (attack,), (model,) = tmp_path.glob("attacks/*-*"), tmp_path.glob("models/*-*")
    assert Folder(attack).finished()
    assert Folder(model).finished()
    assert f"attack is finished: {attack}" in run_py(*ATTACK, f"outputs={tmp_path}")[2]


def test_a_failing_job_shows_its_traceback(run_py, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="loss is nan"):
        run_py(*ATTACK, f"outputs={tmp_path}", "training.optimizer=sgd", "training.learning_rate=1e12")


def python(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_real_process_says_one_line(tmp_path: Path) -> None:
    done = python(str(ROOT / "run.py"), *ATTACK, f"outputs={tmp_path}", "attack.steps=abc", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: attack.steps=abc: must be a whole number\n"
    done = python(str(ROOT / "run.py"), "attack=tpok", cwd=tmp_path, HYDRA_FULL_ERROR="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_run_py_is_small_and_imports_neither_torch_nor_wandb() -> None:
    assert len((ROOT / "run.py").read_text().splitlines()) < 25
    script = (
        "import runpy, sys; runpy.run_path('run.py', run_name='entry'); "
        "print(sorted({'torch', 'wandb', 'pandas', 'runner.cli'} & set(sys.modules)))"
    )
    done = python("-c", script, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("['runner.cli']\n", "")


def test_a_finished_run_needs_neither_torch_nor_pandas(run_py, tmp_path: Path) -> None:
    line = (*ATTACK, "metrics=[topk_intersection]", f"outputs={tmp_path / 'outputs'}")
    code, made, _ = run_py(*line)
    assert (code, "topk intersection ↑" in made) == (0, True)
    script = (
        "import sys; from runner.main import main; main(); "
        "print(sorted({'torch', 'pandas', 'scipy', 'matplotlib', 'wandb'} & set(sys.modules)))"
    )
    again = python("-c", script, *line, cwd=tmp_path, PYTHONPATH=os.pathsep.join(sys.path), PYTHONIOENCODING="utf-8")
    assert again.stdout == f"{made}[]\n", again.stderr


def test_help_shows_groups_and_examples(tmp_path: Path) -> None:
    done = python(str(ROOT / "run.py"), "--help", cwd=tmp_path)
    assert done.returncode == 0
    for group in (
        "job",
        "dataset",
        "model",
        "training",
        "defense",
        "attribution",
        "attack",
        "epsilon",
        "metrics",
        "tracking",
    ):
        assert f"\n{group}: " in done.stdout, group
    assert "topk" in done.stdout
    assert done.stdout.split("Examples")[1].count("python run.py") >= 3


def test_cfg_job_shows_the_config(tmp_path: Path) -> None:
    done = python(str(ROOT / "run.py"), "--cfg", "job", "dataset=digits", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "name: digits" in done.stdout
    assert "_target_: runner.jobs.evaluate.run" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_it_works_from_another_folder_with_a_space_in_it(tmp_path: Path) -> None:
    here = tmp_path / "a folder"
    here.mkdir()
    done = python(str(ROOT / "run.py"), *SMALL, "job=train", "outputs=results", cwd=here)
    assert done.returncode == 0, done.stderr
    (model,) = (here / "results" / "models").glob("digits-*")
    assert Folder(model).finished()
    assert [path.name for path in here.iterdir()] == ["results"]
    shutil.rmtree(here)


def test_a_folder_of_the_project_is_no_config_group(run_py, tmp_path: Path) -> None:
    """With the project's root on Hydra's search path, `outputs/` would turn `outputs=...` into the choice of a group."""
    (ROOT / "outputs").mkdir(exist_ok=True)
    code, out, err = run_py("job=train", f"outputs={tmp_path}", "--cfg", "job")
    assert (code, err) == (0, "")
    assert f"outputs: {tmp_path}" in out


def test_a_certificate_of_null_is_none(run_py) -> None:
    code, out, err = run_py("certificate=null", "epsilon.values=[0.25,1.0]", "--cfg", "job")
    assert (code, err) == (0, "")
    assert "certificate:" not in out


def test_a_link_to_run_py_and_a_reader_that_leaves(tmp_path: Path) -> None:
    link = tmp_path / "run.py"
    link.symlink_to(ROOT / "run.py")
    line = f"set -o pipefail; {sys.executable} {link} --help | head -1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
