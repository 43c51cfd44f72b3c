"""Every setting reaches the form, and comes back from it as it was."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from qa_lora.config import TrainConfig
from qa_lora.errors import ConfigError
from qa_lora.presets import PRESETS

form = pytest.importorskip("qa_lora.ui.form")
FIELDS = list(TrainConfig.model_fields)


def values(preset: str = "Quick demo", **changed: Any) -> list[Any]:
    start = {**form.preset_values(preset), **changed}
    return [form.shown_value(name, start[name]) for name in form.FIELDS]


@pytest.fixture(scope="module")
def controls() -> dict[str, Any]:
    from pathlib import Path

    import gradio as gr

    from qa_lora.ui.engine import Engine
    from qa_lora.ui.train import build_train

    with gr.Blocks(analytics_enabled=False):
        return build_train(Engine(Path("nowhere")), None).controls


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_has_a_labelled_control_with_its_help(
    controls: dict[str, Any], name: str
) -> None:
    control = controls[name]
    assert control.label and control.interactive is not False
    if name not in ("model", "data"):
        assert control.info == TrainConfig.model_fields[name].description


@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_preset_comes_back_from_the_form_as_it_is(preset: str) -> None:
    settings = form.to_settings(values(preset))
    assert TrainConfig(**settings) == TrainConfig.build(preset)
    assert form.check_settings(settings) == {}
    assert form.advanced_title(preset, settings) == "Advanced"


def test_the_controls_start_with_the_first_preset(controls: dict[str, Any]) -> None:
    shown = [controls[name].value for name in form.FIELDS]
    assert TrainConfig(**form.to_settings(shown)) == TrainConfig.build("Quick demo")


def test_whole_numbers_and_empty_texts_become_what_the_config_wants() -> None:
    settings = form.to_settings(values(max_steps=12, lora_r=8.0, max_rows=None, name="  a "))
    assert settings["max_steps"] == 12 and settings["lora_r"] == 8
    assert settings["max_rows"] is None and settings["name"] == "a"


def test_own_questions_are_lines_in_the_form_and_flags_in_the_command() -> None:
    from qa_lora import cli

    settings = form.to_settings(values(probe_questions=[" Who? ", "", "- What,\tor why?"]))
    assert settings["probe_questions"] == ("Who?", "- What,\tor why?")
    parsed = vars(cli.build_parser().parse_args(shlex.split(form.as_command(settings))[1:]))
    knobs = {k[len(cli.KNOB) :]: v for k, v in parsed.items() if k.startswith(cli.KNOB)}
    assert TrainConfig.build(**knobs) == TrainConfig(**settings)
    assert form.advanced_title("Quick demo", settings) == "Advanced · 1 changed"
    assert form.shown_value("probe_questions", ("a", "b")) == "a\nb"


def test_spaces_in_a_prompt_stay() -> None:
    settings = form.to_settings(values(context_prompt=" Passage: {context} "))
    assert settings["context_prompt"] == " Passage: {context} "


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("learning_rate", 0, "greater than 0"),
        ("learning_rate", float("nan"), "finite"),
        ("learning_rate", None, "valid number"),
        ("lora_r", 2.5, "integer"),
        ("max_steps", "many", "integer"),
        ("prompt", "no placeholder", "{question}"),
        ("model", "", ""),
    ],
)
def test_what_is_wrong_is_said_at_its_setting(name: str, value: Any, said: str) -> None:
    wrong = form.check_settings(form.to_settings(values(**{name: value})))
    if said:
        assert list(wrong) == [name] and said in wrong[name]


def test_the_title_counts_what_differs_from_the_preset() -> None:
    settings = form.to_settings(values(lora_r=4, seed=7))
    assert form.advanced_title("Quick demo", settings) == "Advanced · 2 changed"


def test_the_command_and_the_yaml_give_the_same_training(tmp_path: Any) -> None:
    changed = {"lora_r": 4, "use_dora": True, "prompt": "Q: {question} 'x'", "data": "my file.csv"}
    settings = form.to_settings(values(**changed))
    words = shlex.split(form.as_command(settings, "some runs"))
    assert words[:6] == ["qa-lora", "train", "--model", "pocket", "--data", "my file.csv"]
    assert words[words.index("--runs-dir") + 1] == "some runs"
    assert words[words.index("--prompt") + 1] == "Q: {question} 'x'" and "--use-dora" in words

    file = tmp_path / "train.yaml"
    file.write_text(form.as_yaml(settings), "utf-8")
    assert TrainConfig.from_yaml(file) == TrainConfig(**settings)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_the_command_line_reads_the_command_as_it_was_meant(preset: str) -> None:
    from qa_lora import cli

    changed = {"prompt": "- {question} \"'", "use_rslora": True, "max_rows": 50}
    settings = form.to_settings(values(preset, **changed))
    parsed = vars(cli.build_parser().parse_args(shlex.split(form.as_command(settings))[1:]))
    knobs = {k[len(cli.KNOB) :]: v for k, v in parsed.items() if k.startswith(cli.KNOB)}
    assert TrainConfig.build(**knobs) == TrainConfig(**settings)


def test_a_command_of_wrong_settings_is_refused() -> None:
    with pytest.raises(ConfigError):
        form.as_command(form.to_settings(values(epochs=0)))


def test_a_preset_that_names_data_selects_it_and_gives_it_back() -> None:
    both = form.data_after("Notebook", "atlas")
    assert both == PRESETS["Notebook"]["data"]
    assert both in [value for _, value in form.data_choices()]
    assert form.data_after("Quick demo", both) == "atlas"
    assert form.data_after("Quality", "mine.csv") == "mine.csv"


def test_several_sources_are_repeated_flags() -> None:
    from qa_lora import cli

    settings = form.to_settings(values(data="a/b weight=2\nmine.csv", test_data="c/d\ne/f"))
    words = shlex.split(form.as_command(settings))
    assert words.count("--data") == 2
    parsed = vars(cli.build_parser().parse_args(words[1:]))
    knobs = {k[len(cli.KNOB) :]: v for k, v in parsed.items() if k.startswith(cli.KNOB)}
    assert TrainConfig.build(**knobs) == TrainConfig(**settings)


def test_a_preset_that_names_a_model_selects_it_and_gives_it_back() -> None:
    large = form.model_after("Notebook", "pocket")
    assert large == PRESETS["Notebook"]["model"]
    assert form.model_after("Quick demo", large) == "pocket"
    assert form.model_after("Quality", "my/model") == "my/model"
