"""Settings: right ones go in and come back the same, wrong ones are named in one sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from qa_lora.config import GROUPS, PRESETS, TrainConfig, read_settings
from qa_lora.errors import ConfigError

FIELDS = TrainConfig.model_fields


def refusal(**values: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        TrainConfig.build(**values)
    return caught.value


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "settings.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_has_a_group_and_one_sentence_of_help(name: str) -> None:
    extra = FIELDS[name].json_schema_extra
    assert isinstance(extra, dict) and extra["group"] in GROUPS
    assert re.fullmatch(r"[A-Z].+\.", FIELDS[name].description or "")


def test_every_group_holds_a_setting() -> None:
    assert {field.json_schema_extra["group"] for field in FIELDS.values()} == set(GROUPS)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("learning_rate", 0, "greater than 0 (it is 0)"),
        ("learning_rate", -1e-3, "greater than 0"),
        ("learning_rate", float("nan"), "finite number (it is nan)"),
        ("learning_rate", float("inf"), "finite number (it is inf)"),
        (
            "learning_rate",
            "fast",
            "valid number, unable to parse string as a number (it is 'fast')",
        ),
        ("learning_rate", None, "valid number"),
        ("learning_rate", 10**400, "valid number (it is 1000"),
        ("learning_rate", 1.5, "less than or equal to 1"),
        ("lora_r", 0, "greater than or equal to 1"),
        ("lora_r", 513, "less than or equal to 512"),
        ("lora_r", float("nan"), "finite number"),
        ("lora_r", 2.5, "valid integer"),
        ("lora_r", "", "valid integer"),
        ("lora_dropout", 1, "less than 1"),
        ("lora_dropout", -0.1, "greater than or equal to 0"),
        ("epochs", float("inf"), "finite number"),
        ("max_steps", 0, "greater than or equal to 1"),
        ("max_rows", 2, "greater than or equal to 3"),
        ("batch_size", 0, "greater than or equal to 1"),
        ("gradient_accumulation", 0, "greater than or equal to 1"),
        ("max_grad_norm", -1, "greater than or equal to 0"),
        ("loraplus_lr_ratio", 0.5, "greater than or equal to 1"),
        ("label_smoothing", 1, "less than 1"),
        ("early_stopping_patience", -1, "greater than or equal to 0"),
        ("early_stopping_metric", "bleu", "'loss' or 'rougeL' (it is 'bleu')"),
        ("probe_questions", ["?"] * 33, "at most 32 items"),
        ("probe_questions", 5, "valid tuple"),
        ("report_to", "wandb", "'none', 'tensorboard' or 'trackio' (it is 'wandb')"),
        ("max_grad_norm", float("inf"), "finite number"),
        ("warmup_ratio", 1, "less than 1"),
        ("weight_decay", float("nan"), "finite number"),
        ("seed", -1, "greater than or equal to 0"),
        ("seed", 2**32, "less than 4294967296"),
        ("max_source_tokens", 7, "greater than or equal to 8"),
        ("max_target_tokens", 1, "greater than or equal to 2"),
        ("validation_fraction", 0, "greater than 0"),
        ("test_fraction", 0.5, "less than 0.5"),
        ("schedule", "square", "'linear', 'cosine' or 'constant' (it is 'square')"),
        ("precision", "fp16", "'auto', 'bf16' or 'fp32' (it is 'fp16')"),
        ("keep", "all", "'best' or 'last'"),
        ("use_dora", "maybe", "valid boolean"),
        ("target_modules", "", "at least 1 character"),
        ("model", "", "at least 1 character"),
        ("data", "", "at least 1 character"),
        ("model", 5, "valid string"),
        ("name", "x" * 61, "at most 60 characters"),
        ("prompt", "Answer!", "must contain {question} (it is 'Answer!')"),
        ("context_prompt", "", "must contain {context}"),
    ],
)
def test_a_wrong_value_is_one_sentence_that_names_the_setting(
    name: str, value: Any, says: str
) -> None:
    message = refusal(**{name: value}).message
    assert message.startswith(f"The setting {name} ") and says in message
    assert message.endswith(").") and "\n" not in message
    assert "Input" not in message and "String" not in message and "string should" not in message


@pytest.mark.parametrize("name", [n for n, f in FIELDS.items() if f.annotation in (int, float)])
def test_no_number_may_be_nan_infinite_or_text(name: str) -> None:
    for value in (float("nan"), float("inf"), -float("inf"), "text", None, [1]):
        assert f"The setting {name} " in refusal(**{name: value}).message


def test_a_pasted_file_is_not_quoted_whole() -> None:
    message = refusal(prompt="line\n" * 10_000).message
    assert len(message) < 200 and "\n" not in message


def test_shares_that_leave_nothing_to_train_on() -> None:
    assert refusal(validation_fraction=0.45, test_fraction=0.45).message == (
        "The shares validation_fraction and test_fraction must leave a tenth for training."
    )


@pytest.mark.parametrize("name", ["learning_rates", "cls", "self", "preset", "Learning_rate"])
def test_an_unknown_setting_is_named(name: str) -> None:
    assert refusal(**{name: 1}).message == f"There is no setting named {name}."


def test_an_unknown_preset_is_told_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no preset named 'Turbo'.*Quick demo.*Notebook"):
        TrainConfig.build("Turbo")


def test_defaults_are_checked_like_any_value() -> None:
    assert TrainConfig.build() == TrainConfig.build(**TrainConfig().model_dump())


def test_a_config_cannot_change_under_a_running_training() -> None:
    with pytest.raises(ValidationError):
        TrainConfig().learning_rate = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_valid_and_a_setting_beats_it(preset: str) -> None:
    config = TrainConfig.build(preset)
    assert {name: getattr(config, name) for name in PRESETS[preset]} == PRESETS[preset]
    assert TrainConfig.build(preset, learning_rate=0.125).learning_rate == 0.125


def test_the_notebook_preset_has_the_notebooks_values() -> None:
    config = TrainConfig.build("Notebook")
    values = {
        "model": "google/flan-t5-large",
        "data": "hf://datasets/Hello-SimpleAI/HC3/all.jsonl\nMohamedRashad/ChatGPT-prompts",
        "prompt": "Answer this question: {question}",
        "max_source_tokens": 256,
        "max_target_tokens": 256,
        "seed": 42,
        "batch_size": 4,
        "gradient_accumulation": 1,
        "lora_r": 8,
        "lora_alpha": 32,
        "lora_dropout": 0.1,
        "target_modules": "q,v",
        "use_rslora": False,
        "use_dora": False,
        "base_dropout": True,
        "learning_rate": 1e-4,
        "schedule": "linear",
        "warmup_ratio": 0.0,
        "epochs": 3.0,
        "max_steps": None,
        "max_new_tokens": 256,
        "precision": "fp32",
        "keep": "last",
    }
    assert {name: getattr(config, name) for name in values} == values
    assert config.validation_fraction + config.test_fraction == pytest.approx(0.3)


def test_the_defaults_are_the_notebooks_lora() -> None:
    config = TrainConfig()
    assert (config.lora_r, config.lora_alpha, config.lora_dropout) == (8, 32, 0.1)
    assert config.target_modules == "q,v" and not config.base_dropout


def test_effective_batch_and_what_changed() -> None:
    config = TrainConfig.build(batch_size=4, gradient_accumulation=6, seed=42)
    assert config.effective_batch_size == 24
    assert config.changed() == {"batch_size": 4, "gradient_accumulation": 6}


@given(
    text=st.text(),
    column=st.none() | st.text(),
    rate=st.floats(min_value=5e-324, max_value=1),
    dropout=st.floats(min_value=0, max_value=1, exclude_max=True),
    steps=st.none() | st.integers(min_value=1),
)
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_yaml_gives_back_the_same_settings(
    tmp_path: Path,
    text: str,
    column: str | None,
    rate: float,
    dropout: float,
    steps: int | None,
) -> None:
    config = TrainConfig.build(
        prompt=text + "{question}",
        history_prompt=text,
        question_column=column,
        learning_rate=rate,
        lora_dropout=dropout,
        max_steps=steps,
    )
    assert TrainConfig.from_yaml(written(tmp_path, config.to_yaml())) == config


@pytest.mark.parametrize("preset", PRESETS)
def test_yaml_of_a_preset_keeps_the_order_of_declaration(tmp_path: Path, preset: str) -> None:
    config = TrainConfig.build(preset)
    path = written(tmp_path, config.to_yaml())
    assert TrainConfig.from_yaml(path) == config
    assert list(read_settings(path)) == list(FIELDS)


def test_lists_may_be_lists_or_text(tmp_path: Path) -> None:
    text = "target_modules: [q, v, wo]\nprobe_questions:\n- Who?\n- Why?\n"
    config = TrainConfig.from_yaml(written(tmp_path, text))
    assert config.target_modules == "q,v,wo" and config.probe_questions == ("Who?", "Why?")
    assert TrainConfig.from_yaml(written(tmp_path, config.to_yaml())) == config
    assert TrainConfig.build(probe_questions="Who?\n\n Why? \n") == TrainConfig.build(
        probe_questions=["Who?", "Why?"]
    )


def test_yaml_as_people_write_it(tmp_path: Path) -> None:
    text = "\ufeff# mine\r\nlearning_rate: 1e-4\r\nlora_r: '16'\r\nuse_dora: yes\r\n"
    config = TrainConfig.from_yaml(written(tmp_path, text))
    assert (config.learning_rate, config.lora_r, config.use_dora) == (1e-4, 16, True)
    assert TrainConfig.from_yaml(written(tmp_path, "")) == TrainConfig()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seed: 1\nlora_r: [1\n", r"is not valid YAML \(line 3\)\.$"),
        ("seed: 1\nname: a: b\n", r"is not valid YAML \(line 2\)\.$"),
        ("name: !!python/object/apply:os.getcwd []\n", r"is not valid YAML \(line 1\)\.$"),
        ("name: 2001-13-45\n", r"is not valid YAML\.$"),
        ("seed: " + "1" * 5000, r"is not valid YAML\.$"),
        ("name: " + "[" * 1200, r"is not valid YAML\.$"),
        ("name: \0", r"is not valid YAML\.$"),
        ("- seed: 1\n", r"holds a list, not settings\. Write one setting a line"),
        ("seed\n", r"holds a str, not settings\."),
        (b"name: \xe9t\xe9\n", r"cannot be read: .*utf-8.*\.$"),
        ("seed: 1\nspeed: 2\n", r"^There is no setting named speed\.$"),
        ("1: 2\n", r"^There is no setting named 1\.$"),
        ("cls: 2\n", r"^There is no setting named cls\.$"),
        ("preset: [Quality]\n", r"^There is no setting named preset\.$"),
        ("learning_rate: .nan\n", r"^The setting learning_rate .*finite"),
        ("lora_r:\n", r"^The setting lora_r .*integer \(it is None\)\.$"),
        ("prompt: {question}\n", r"^The setting prompt .*valid string"),
    ],
    ids=range(17),
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        TrainConfig.from_yaml(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match=r"The settings file .* cannot be read: "):
            TrainConfig.from_yaml(path)
