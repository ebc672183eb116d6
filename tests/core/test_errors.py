import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException, InstantiationException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.core.errors import ConfigError, one_line, require, require_at_least, require_positive


def test_choice_lists_what_is_allowed_and_suggests():
    error = ConfigError.choice("epsilon.norm", "lnf", ["linf", "l2"])
    assert str(error) == "epsilon.norm=lnf: allowed are l2, linf (did you mean linf?)"


def test_choice_without_a_near_one_or_any():
    assert str(ConfigError.choice("a", "zzz", ["l2"])) == "a=zzz: allowed are l2"
    assert str(ConfigError.choice("a", "x", [])) == "a=x: allowed are none"


def test_require():
    require(True, "key", 1, "anything")
    with pytest.raises(ConfigError, match=r"^attack\.steps=-1: must be at least 0$"):
        require(False, "attack.steps", -1, "at least 0")


def test_numbers_below_what_is_allowed():
    for value in (1, 2, 1.5, None):
        require_at_least("attack.steps", value, 1)
    with pytest.raises(ConfigError, match=r"^attack\.steps=0: must be at least 1$"):
        require_at_least("attack.steps", 0, 1)
    for value in (1e-9, None):
        require_positive("attack.beta", value)
    with pytest.raises(ConfigError, match=r"^attack\.beta=0: must be above 0, or null$"):
        require_positive("attack.beta", 0, "above 0, or null")
    for value in (-1.0, float("nan")):
        with pytest.raises(ConfigError):
            require_positive("attack.beta", value)
        with pytest.raises(ConfigError):
            require_at_least("attack.beta", value, 0)


def caught(action, kind):
    with pytest.raises(kind) as info:
        action()
    return info.value


def test_unknown_key_of_a_struct():
    config = OmegaConf.create({"attack": {"steps": 10, "restarts": 1, "_target_": "x"}})
    OmegaConf.set_struct(config, True)
    error = caught(lambda: OmegaConf.update(config, "attack.stpes", 3), OmegaConfBaseException)
    expected = "attack.stpes: no such key; allowed here are restarts, steps (did you mean steps?)"
    assert one_line(error) == expected


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.yaml").write_text("attack:\n  steps: 10\n  restarts: 1\nseed: 0\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mlp.yaml").write_text("width: 8\n")
    return tmp_path


def composed(folder, *overrides):
    with initialize_config_dir(str(folder), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def test_unknown_key_on_the_command_line(folder):
    error = caught(lambda: composed(folder, "attack.stpes=3"), HydraException)
    assert one_line(error) == "attack.stpes: no such key; allowed here are restarts, steps (did you mean steps?)"


def test_unknown_key_at_the_top(folder):
    error = caught(lambda: composed(folder, "sed=3"), HydraException)
    assert one_line(error) == "sed: no such key; allowed here are attack, hydra, seed (did you mean seed?)"


def test_unknown_choice_is_one_line_with_the_choices(folder):
    line = one_line(caught(lambda: composed(folder, "+model=resnet"), HydraException))
    assert "\n" not in line
    assert "model/resnet" in line
    assert "mlp" in line


def test_a_plain_error_on_several_lines_becomes_one():
    assert one_line(ValueError("first\n\n  second\n")) == "first second"


def test_the_cause_of_a_hydra_error_is_kept():
    error = InstantiationException("Error in call")
    error.__cause__ = ValueError("the reason\nand details")
    assert one_line(error) == "Error in call the reason"


def test_a_cause_that_is_already_told_is_not_repeated():
    error = InstantiationException("Error in call: the reason")
    error.__cause__ = ValueError("the reason")
    assert one_line(error) == "Error in call: the reason"
