"""The settings of a training as a form: every field of TrainConfig becomes a control."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, get_args, get_origin

import gradio as gr
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from qa_lora.catalog import MODELS, POCKET
from qa_lora.config import GROUPS, SOURCES, TrainConfig, group_of
from qa_lora.data.sources import parse
from qa_lora.presets import PRESETS

__all__ = [
    "ADVANCED",
    "BUNDLED",
    "FIELDS",
    "FIRST_PRESET",
    "advanced_title",
    "as_command",
    "as_yaml",
    "build_advanced",
    "check_settings",
    "data_after",
    "data_choices",
    "label_of",
    "model_after",
    "model_choices",
    "model_info",
    "preset_values",
    "shown_value",
    "to_settings",
]

BUNDLED = ("atlas (bundled)", "atlas")
FIRST_PRESET = next(iter(PRESETS))
FIELDS = tuple(TrainConfig.model_fields)
"""Every setting, in the order in which handlers take the controls' values."""
ON_TOP = ("model", "data", "question_column", "answer_column", "context_column")
"""Settings whose controls stand above the fold; all others are in Advanced."""
ADVANCED = tuple(name for name in FIELDS if name not in ON_TOP)

_LABELS = {
    "name": "Name of the run",
    "lora_r": "LoRA rank (r)",
    "lora_alpha": "LoRA alpha",
    "lora_dropout": "LoRA dropout",
    "use_rslora": "rsLoRA",
    "use_dora": "DoRA",
    "base_dropout": "Dropout of the base model",
    "init_adapter": "Adapter to go on from",
    "loraplus_lr_ratio": "LoRA+ ratio",
    "early_stopping_patience": "Early stopping: patience",
    "early_stopping_metric": "Best adapter by",
    "early_stopping_min_improvement": "Least improvement",
    "probe_questions": "Own probe questions",
    "max_grad_norm": "Longest gradient",
    "prompt": "Prompt",
}
_CHOICES = {"target_modules": ["q,v", "q,k,v,o", "all-linear"]}
_PLACEHOLDERS = {
    "loraplus_lr_ratio": "off",
    "near_duplicates": "off",
    "validation_data": "taken from the data",
    "test_data": "taken from the data",
}
_TITLES = {"Task": "Run", "LoRA": "LoRA", "Saving": "Saving"}


def label_of(name: str) -> str:
    """What a setting is called on the page."""
    return _LABELS.get(name, name.replace("_", " ").capitalize())


def build_advanced() -> dict[str, Any]:
    """Lay out a control for every setting in Advanced, by groups; call it inside the fold.

    Returns:
        Setting name -> component, holding the first preset's values.
    """
    values = preset_values(FIRST_PRESET)
    controls: dict[str, Any] = {}
    for group in GROUPS:
        names = [name for name in ADVANCED if group_of(name) == group]
        if not names:
            continue
        gr.Markdown(f"#### {_TITLES.get(group, group)}")
        with gr.Row(elem_classes="knobs"):
            for name in names:
                controls[name] = _control(name, values[name])
    return controls


def _control(name: str, value: Any) -> Any:
    field = TrainConfig.model_fields[name]
    kind, optional = _kind(field)
    shared: dict[str, Any] = {
        "label": label_of(name),
        "info": field.description,
        "interactive": True,
        "elem_id": f"set-{name}",
        "min_width": 150,
    }
    if name in _CHOICES:
        return gr.Dropdown(_CHOICES[name], value=value, allow_custom_value=True, **shared)
    if get_origin(kind) is Literal:
        return gr.Dropdown(list(get_args(kind)), value=value, **shared)
    if kind is bool:
        return gr.Checkbox(value=value, **shared)
    if kind in (int, float) and not optional:
        step = 1 if kind is int else 0.0001 if name == "learning_rate" else 0.01
        return gr.Number(value=value, step=step, **shared)
    if name in SOURCES:
        return gr.Textbox(value or "", placeholder=_PLACEHOLDERS[name], lines=2, **shared)
    if optional:  # An empty number field would be sent as 0.
        return gr.Textbox(
            shown_value(name, value), placeholder=_PLACEHOLDERS.get(name, "no limit"), **shared
        )
    if _is_list(name):
        return gr.Textbox(shown_value(name, value), lines=2, max_lines=8, **shared)
    return gr.Textbox(value=value or "", lines=1, max_lines=4, **shared)


def _kind(field: FieldInfo) -> tuple[Any, bool]:
    """The type of a setting without its None, and whether it may be None."""
    parts = [part for part in get_args(field.annotation) if part is not type(None)]
    optional = type(None) in get_args(field.annotation)
    return (parts[0], True) if optional else (field.annotation, False)


def preset_values(preset: str) -> dict[str, Any]:
    """The value of every setting under a preset."""
    defaults = {name: field.default for name, field in TrainConfig.model_fields.items()}
    return {**defaults, **PRESETS.get(preset, {})}


def shown_value(name: str, value: Any) -> Any:
    """A setting's value as its control shows it."""
    if _is_list(name):
        return "\n".join(value)
    _, optional = _kind(TrainConfig.model_fields[name])
    return ("" if value is None else str(value)) if optional else value


def _is_list(name: str) -> bool:
    return isinstance(TrainConfig.model_fields[name].default, tuple)


def to_settings(values: Sequence[Any]) -> dict[str, Any]:
    """The controls' values, in the order of FIELDS, as settings; an empty text may mean None."""
    settings: dict[str, Any] = {}
    for name, value in zip(FIELDS, values, strict=True):
        kind, optional = _kind(TrainConfig.model_fields[name])
        if isinstance(value, str):  # without halves of surrogate pairs, which no file can hold
            value = value.encode("utf-8", "replace").decode()
        if isinstance(value, str) and not name.endswith("prompt"):
            value = value.strip()
        if _is_list(name):
            value = tuple(line.strip() for line in (value or "").splitlines() if line.strip())
        elif optional and value in ("", None):
            value = None
        elif kind is int and _is_whole(value):
            value = int(value)
        elif kind is float and isinstance(value, str):
            with suppress(ValueError):  # what is no number is said by the settings themselves
                value = float(value)
        settings[name] = value
    return settings


def _is_whole(value: Any) -> bool:
    if isinstance(value, str):
        return value.isdecimal()
    return isinstance(value, float) and value.is_integer()


def check_settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with which setting; empty when a training could start.

    A problem of several settings together stands under the empty name.
    """
    try:
        TrainConfig(**settings)
    except ValidationError as error:
        return {
            ".".join(str(part) for part in problem["loc"]): _sentence(problem["msg"])
            for problem in error.errors()
        }
    return {}


def _sentence(message: str) -> str:
    text = message.removeprefix("Value error, ").removeprefix("Input ")
    return f"{text[:1].upper()}{text[1:]}."


def advanced_title(preset: str, settings: Mapping[str, Any]) -> str:
    """The fold's title, with the number of settings that differ from the preset."""
    start = preset_values(preset)
    changed = [name for name in ADVANCED if settings[name] != start[name]]
    return f"Advanced · {len(changed)} changed" if changed else "Advanced"


def as_command(settings: Mapping[str, Any], runs_dir: str = "") -> str:
    """The same training on the command line."""
    config = TrainConfig.build(**settings)
    words = ["qa-lora", "train", "--model", config.model]
    words += [word for line in config.data.splitlines() for word in ("--data", line)]
    if runs_dir and runs_dir != "runs":
        words += ["--runs-dir", runs_dir]
    for name, value in config.changed().items():
        if name in ("model", "data"):
            continue
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, tuple):
            words += [f"{flag}={part}" for part in value]
        elif name in SOURCES:
            words += [f"{flag}={line}" for line in value.splitlines()]
        elif str(value).startswith("-"):
            words.append(f"{flag}={value}")
        else:
            words += [flag, str(value)]
    return shlex.join(words)


def as_yaml(settings: Mapping[str, Any]) -> str:
    """The same training as a file for ``qa-lora train --config``."""
    return TrainConfig.build(**settings).to_yaml()


def model_choices(allowed: Sequence[str] = ()) -> list[tuple[str, str]]:
    """The base models by name, with their sizes; only those that are allowed, unless all are."""
    return [
        (f"{model.label} · {model.description.removesuffix(' parameters')}", model.id)
        for model in MODELS
        if not allowed or model.id in allowed
    ]


def model_info(model_id: str, public: bool = False) -> str:
    """How large a base model is, in one line under its control.

    Args:
        model_id: Its name.
        public: Whether visitors are strangers, who choose from a list.
    """
    for model in MODELS:
        if model.id == model_id:
            more = "" if public else " Any folder or Hub id can be typed."
            return f"{model.description}.{more}"
    if public:
        return "A Hub id; whether this server trains it is said below."
    return "A folder or a Hub id; its size is known once it is loaded."


def model_after(preset: str, current: str) -> str:
    """Which base model a change of preset selects.

    A preset that names one selects it; another one keeps what was chosen by hand.
    """
    named = PRESETS.get(preset, {}).get("model")
    if named:
        return str(named)
    from_preset = [values.get("model") for values in PRESETS.values()]
    return POCKET if current in from_preset else current


def data_choices(*more: tuple[str, str]) -> list[tuple[str, str]]:
    """The data that can be chosen by name, and an upload or the like."""
    presets = [
        (f"The {name} preset's: {' and '.join(_labels(values['data']))}", str(values["data"]))
        for name, values in PRESETS.items()
        if "data" in values
    ]
    return [BUNDLED, *presets, *more]


def data_after(preset: str, current: str) -> str:
    """Which data a change of preset selects, as :func:`model_after` does for the model."""
    named = PRESETS.get(preset, {}).get("data")
    if named:
        return str(named)
    from_preset = [values.get("data") for values in PRESETS.values()]
    return BUNDLED[1] if current in from_preset else current


def _labels(data: str) -> list[str]:
    return [source.label for source in parse(data)]
