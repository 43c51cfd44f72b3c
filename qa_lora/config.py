"""Every knob of a training, declared once.

The command-line flag, the form control, the YAML key and the table in the docs are all made from
the fields of :class:`TrainConfig`: their type, bounds, group and one sentence of help.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from qa_lora.errors import ConfigError, shorten
from qa_lora.presets import PRESETS

__all__ = [
    "BATCH_TOKENS",
    "DATA_SETTINGS",
    "GROUPS",
    "PRESETS",
    "SOURCES",
    "SPLIT_SETTINGS",
    "TrainConfig",
    "group_of",
    "read_settings",
]

GROUPS = ("Task", "Data", "Prompt", "LoRA", "Optimisation", "Lengths", "Evaluation", "Saving")


BATCH_TOKENS = {"cpu": 2048, "gpu": 32_768}
"""batch_tokens where it is empty: enough for fast products, few enough for caches and memory."""


SOURCES = ("data", "validation_data", "test_data")
"""Settings that name sources, one a line; a list of lines is joined."""


def knob(default: Any, group: str, help: str, **bounds: Any) -> Any:
    """Declare one setting: its default, the group it is shown in, and a sentence of help."""
    return Field(
        default,
        description=help,
        json_schema_extra={"group": group},
        validate_default=True,
        **bounds,
    )


class TrainConfig(BaseModel):
    """Everything that is needed to start a training, and to start it again.

    Raises:
        ConfigError: From :meth:`build` and :meth:`from_yaml`, naming the setting and its bounds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str = knob(
        "pocket",
        "Task",
        "Base model: pocket (bundled), a local folder or a Hub id.",
        min_length=1,
    )
    data: str = knob(
        "atlas",
        "Task",
        "Data: atlas (bundled), a file, a folder or a Hub id; several one a line, each with "
        "subset, split, revision, weight or rows behind it (docs/data.md).",
        min_length=1,
    )
    name: str = knob(
        "", "Task", "Short name of the run; made from model and data when empty.", max_length=60
    )

    question_column: str | None = knob(
        None, "Data", "Column with the questions; found by name when empty."
    )
    answer_column: str | None = knob(
        None, "Data", "Column with the answers; found by name when empty."
    )
    context_column: str | None = knob(
        None, "Data", "Column with a passage to read; found by name when empty."
    )
    answers_from: Literal["all", "human", "chatgpt"] = knob(
        "all", "Data", "Whose answers are trained where the data has those of people and ChatGPT."
    )
    unanswerable: Literal["drop", "answer"] = knob(
        "drop",
        "Data",
        "Questions that SQuAD 2.0 marks as without an answer: left out, or answered with "
        "unanswerable.",
    )
    streaming: bool = knob(
        False,
        "Data",
        "Read Hub data sets as a stream, their first rows only, while training goes on; needs "
        "max_rows or rows=.",
    )
    validation_data: str | None = knob(
        None,
        "Data",
        "Source of the validation rows, written as in data; taken from the data when empty.",
    )
    test_data: str | None = knob(
        None,
        "Data",
        "Source of the test rows, written as in data; taken from the data when empty.",
    )
    max_rows: int | None = knob(None, "Data", "Use at most this many rows; all when empty.", ge=3)
    validation_fraction: float = knob(
        0.1,
        "Data",
        "Share of the questions that steers training: validation loss, best adapter.",
        gt=0,
        lt=0.5,
    )
    test_fraction: float = knob(
        0.1,
        "Data",
        "Share of the questions held out for scoring; training never sees them.",
        gt=0,
        lt=0.5,
    )
    near_duplicates: float | None = knob(
        0.8,
        "Data",
        "Questions at least this alike stand on one side of the split; empty lets only equal ones "
        "count.",
        ge=0.5,
        le=1,
    )

    prompt: str = knob(
        "Answer this question: {question}",
        "Prompt",
        "Text the model reads; {question} is replaced.",
    )
    context_prompt: str = knob(
        " Context: {context}", "Prompt", "Added after the prompt when a row has a context."
    )
    history_prompt: str = knob(
        "Question: {question} Answer: {answer} ",
        "Prompt",
        "Put before the prompt once for each earlier turn of a chat.",
    )
    whitespace_tokens: Literal["auto", "on", "off"] = knob(
        "auto",
        "Prompt",
        "Learn tokens for line breaks, tabs and repeated spaces where the tokenizer loses them; "
        "auto does so when answers have some.",
    )

    lora_r: int = knob(
        8, "LoRA", "Rank of the update: more rank, more it can learn, more to train.", ge=1, le=512
    )
    lora_alpha: int = knob(
        32, "LoRA", "Scale of the update: it is multiplied by alpha / rank.", ge=1, le=4096
    )
    lora_dropout: float = knob(
        0.1, "LoRA", "Share of the adapter's input dropped in training.", ge=0, lt=1
    )
    target_modules: str = knob(
        "q,v",
        "LoRA",
        "Layers that get an adapter, by name and comma-separated, or all-linear.",
        min_length=1,
    )
    use_rslora: bool = knob(
        False, "LoRA", "Scale by alpha / sqrt(rank) instead (rsLoRA), steadier at high rank."
    )
    use_dora: bool = knob(
        False, "LoRA", "Train magnitude and direction apart (DoRA): slower, sometimes better."
    )
    base_dropout: bool = knob(
        False,
        "LoRA",
        "Keep the frozen base model's own dropout on in training: slower, as the notebook did.",
    )
    init_adapter: str = knob(
        "",
        "LoRA",
        "Run or adapter to go on from with new settings; a fresh adapter when empty.",
    )

    epochs: float = knob(3.0, "Optimisation", "Passes over the training rows.", gt=0, le=1000)
    max_steps: int | None = knob(
        None, "Optimisation", "Stop after this many optimizer steps, whatever the epochs.", ge=1
    )
    max_minutes: float = knob(
        0.0,
        "Optimisation",
        "Stop after this many minutes of training, resumed ones included; 0 sets no limit.",
        ge=0,
    )
    batch_size: int = knob(
        8, "Optimisation", "Rows in one forward pass on one device.", ge=1, le=4096
    )
    batch_tokens: int | None = knob(
        None,
        "Optimisation",
        "At most this many tokens in one forward pass, cutting it if need be: the result stays; "
        "chosen for the device when empty.",
        ge=64,
    )
    gradient_accumulation: int = knob(
        1,
        "Optimisation",
        "Forward passes in one optimizer step; the effective batch is their product.",
        ge=1,
    )
    learning_rate: float = knob(5e-4, "Optimisation", "Highest step size of AdamW.", gt=0, le=1)
    schedule: Literal["linear", "cosine", "constant"] = knob(
        "linear", "Optimisation", "How the learning rate falls after the warm-up."
    )
    warmup_ratio: float = knob(
        0.05, "Optimisation", "Share of the steps in which the learning rate rises.", ge=0, lt=1
    )
    weight_decay: float = knob(
        0.01, "Optimisation", "AdamW's pull of the adapter towards zero.", ge=0, le=1
    )
    loraplus_lr_ratio: float | None = knob(
        None,
        "Optimisation",
        "Learning rate of LoRA's B matrices as a multiple of that of A (LoRA+); the same if empty.",
        ge=1,
        le=1000,
    )
    max_grad_norm: float = knob(
        1.0,
        "Optimisation",
        "Gradients longer than this are shortened to it; 0 leaves them as they are.",
        ge=0,
    )
    label_smoothing: float = knob(
        0.0,
        "Optimisation",
        "Share of the target spread over all tokens, in the training loss only.",
        ge=0,
        lt=1,
    )
    gradient_checkpointing: bool = knob(
        False,
        "Optimisation",
        "Compute activations twice instead of keeping them: less memory, slower, same result.",
    )
    on_nonfinite_loss: Literal["stop", "retry"] = knob(
        "stop",
        "Optimisation",
        "When the loss is no longer a number: stop, or go back to the last checkpoint once and "
        "retry with half the learning rate.",
    )
    precision: Literal["auto", "bf16", "fp32"] = knob(
        "auto",
        "Optimisation",
        "Number format of the frozen weights; auto takes bf16 where the hardware has it.",
    )
    seed: int = knob(
        42,
        "Optimisation",
        "Seed of the split, the order of rows and every random number.",
        ge=0,
        lt=2**32,
    )

    max_source_tokens: int = knob(
        256, "Lengths", "Prompts longer than this many tokens are cut.", ge=8, le=8192
    )
    max_target_tokens: int = knob(
        256, "Lengths", "Answers longer than this many tokens are cut.", ge=2, le=8192
    )
    overlong: Literal["cut", "drop"] = knob(
        "cut",
        "Lengths",
        "Rows longer than these limits: cut them, or drop them from training and validation; the "
        "test rows stay.",
    )
    max_new_tokens: int = knob(
        128, "Lengths", "Longest answer that is generated, in tokens.", ge=1, le=8192
    )

    evaluate_every: int = knob(
        50, "Evaluation", "Optimizer steps between two validation losses.", ge=1
    )
    validation_rows: int = knob(
        200, "Evaluation", "At most this many validation rows are used each time.", ge=1
    )
    probe_rows: int = knob(
        4,
        "Evaluation",
        "Held-out questions answered again and again while training, to watch it learn.",
        ge=0,
        le=32,
    )
    probe_questions: tuple[str, ...] = knob(
        (),
        "Evaluation",
        "Questions of your own to answer while training, one a line; repeat the flag for several.",
        max_length=32,
    )
    early_stopping_patience: int = knob(
        0,
        "Evaluation",
        "Stop after this many validations in a row without improvement; 0 never stops early.",
        ge=0,
    )
    early_stopping_metric: Literal["loss", "rougeL"] = knob(
        "loss",
        "Evaluation",
        "What is to improve and says which adapter is best: validation loss, or ROUGE-L of greedy "
        "answers to at most 64 validation questions.",
    )
    early_stopping_min_improvement: float = knob(
        0.0, "Evaluation", "An improvement of no more than this does not count.", ge=0
    )
    score_rows: int = knob(
        200,
        "Evaluation",
        "Held-out rows scored, base and tuned, when training ends; 0 scores none.",
        ge=0,
    )

    checkpoint_every: int = knob(
        100, "Saving", "Optimizer steps between two checkpoints to resume from.", ge=1
    )
    checkpoint_seconds: float | None = knob(
        60.0,
        "Saving",
        "Seconds after which a checkpoint is due in any case; by steps alone when empty.",
        gt=0,
    )
    keep: Literal["best", "last"] = knob(
        "best",
        "Saving",
        "Adapter that is kept: the best one by early_stopping_metric, or the last.",
    )
    backup: str = knob(
        "",
        "Saving",
        "Copy the run there as it trains: a folder, such as a mounted volume, or a private "
        "repository on the Hub (USER/NAME); nowhere when empty.",
        max_length=500,
    )
    backup_minutes: float = knob(
        10.0, "Saving", "Minutes from one backup to the next, at least.", ge=0
    )
    report_to: Literal["none", "tensorboard", "trackio"] = knob(
        "none", "Saving", "Also log losses there; TensorBoard files go into the run's folder."
    )

    @field_validator(*SOURCES, mode="before", check_fields=False)
    @classmethod
    def _sources_may_be_a_list(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)) and all(isinstance(line, str) for line in value):
            return "\n".join(line.strip() for line in value if line.strip())
        return value

    @field_validator("target_modules", mode="before")
    @classmethod
    def _targets_may_be_a_list(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value):
            return ",".join(value)
        return value

    @field_validator("probe_questions", mode="before")
    @classmethod
    def _questions_may_be_lines(cls, value: Any) -> Any:
        parts = [value] if isinstance(value, str) else value
        if not isinstance(parts, (list, tuple)) or not all(isinstance(q, str) for q in parts):
            return value
        return tuple(line.strip() for part in parts for line in part.splitlines() if line.strip())

    @field_validator("prompt")
    @classmethod
    def _prompt_has_question(cls, value: str) -> str:
        if "{question}" not in value:
            raise ValueError("must contain {question}")
        return value

    @field_validator("context_prompt")
    @classmethod
    def _prompt_has_context(cls, value: str) -> str:
        if "{context}" not in value:
            raise ValueError("must contain {context}")
        return value

    @model_validator(mode="after")
    def _fractions_leave_rows(self) -> TrainConfig:
        if self.validation_fraction + self.test_fraction >= 0.9:
            raise ValueError(
                "the shares validation_fraction and test_fraction must leave a tenth for training"
            )
        return self

    @property
    def effective_batch_size(self) -> int:
        """Rows in one optimizer step on one device."""
        return self.batch_size * self.gradient_accumulation

    @classmethod
    def build(cls, preset: str | None = None, /, **settings: Any) -> TrainConfig:
        """Make a config from a preset's name and settings that override it.

        Raises:
            ConfigError: If the preset or a setting is unknown or out of bounds.
        """
        if preset is not None and preset not in PRESETS:
            raise ConfigError(
                f"There is no preset named {preset!r}.", f"The presets are {', '.join(PRESETS)}."
            )
        values = {**(PRESETS[preset] if preset else {}), **settings}
        try:
            return cls(**values)
        except ValidationError as error:
            raise ConfigError(describe_validation_error(error)) from None

    @classmethod
    def from_yaml(cls, path: str | Path) -> TrainConfig:
        """Read a config that :meth:`to_yaml` or a person wrote.

        Raises:
            ConfigError: If the file is missing, is no YAML mapping, or a setting is wrong.
        """
        return cls.build(**read_settings(path))

    def to_yaml(self) -> str:
        """All settings as YAML, in the order they are declared."""
        values = self.model_dump()
        # YAML reads these as ends of lines, so a text with one is written in escapes.
        text = json.dumps(values, ensure_ascii=False)
        plain = not any(sign in text for sign in "\x85\u2028\u2029")
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=plain)

    def changed(self) -> dict[str, Any]:
        """The settings that differ from their defaults."""
        fields = type(self).model_fields
        return {k: v for k, v in self.model_dump().items() if v != fields[k].default}


def group_of(setting: str) -> str:
    """The group that a setting is shown in."""
    extra = TrainConfig.model_fields[setting].json_schema_extra
    assert isinstance(extra, dict)
    return str(extra["group"])


SPLIT_SETTINGS = (
    *("data", "seed"),
    *(name for name in TrainConfig.model_fields if group_of(name) == "Data"),
)
"""What the rows and their division follow from."""

DATA_SETTINGS = (
    *("model", "max_source_tokens", "max_target_tokens", "overlong"),
    *SPLIT_SETTINGS,
    *(name for name in TrainConfig.model_fields if group_of(name) == "Prompt"),
)
"""What the rows, their division and their token ids follow from."""


def read_settings(path: str | Path) -> dict[str, Any]:
    """Read a YAML file of settings.

    Raises:
        ConfigError: If the file cannot be read or holds no mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The settings file {path} cannot be read: {error}.") from None
    try:
        values = yaml.load(text, _loader(text))  # noqa: S506 - both are safe loaders
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: PyYAML reads 2001-13-45 as a date. RecursionError: lists in lists in lists.
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = f" (line {line + 1})" if line is not None else ""
        raise ConfigError(f"The settings file {path} is not valid YAML{where}.") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"The settings file {path} holds a {type(values).__name__}, not settings.",
            "Write one setting a line, such as learning_rate: 0.0005.",
        )
    return {str(key): value for key, value in values.items()}


def _loader(text: str) -> type[Any]:
    """The fast loader for settings as they are; the one that ends well for lists in lists in lists.

    The fast one is in C and recurses without a limit, so a deep file would crash the process.
    """
    brackets = text.count("[") + text.count("{")
    indents = (len(line) - len(line.lstrip(" \t-?")) for line in text.splitlines())
    if brackets + max(indents, default=0) > 100:
        return yaml.SafeLoader
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def describe_validation_error(error: ValidationError) -> str:
    """One sentence for the first thing wrong: the setting, its value and what would be right."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"There is no setting named {name}."
    if not name:
        return f"{message[:1].upper()}{message[1:]}."
    message = message[:1].lower() + message[1:]
    message = message.removeprefix("input ").removeprefix("string ")
    return f"The setting {name} {message} (it is {shorten(repr(first['input']))})."
