"""Write docs/settings.md from the settings in qa_lora/config.py; `make docs` runs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

# Run as a script, it would take the package of whichever checkout is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from qa_lora.config import GROUPS, TrainConfig
from qa_lora.presets import PRESETS

TARGET = Path(__file__).with_name("settings.md")

INTRODUCTION = """\
# Settings

Made from `qa_lora/config.py` by `make docs`; do not edit.

A setting is a flag of `qa-lora train` (`--learning-rate 0.001`), a key of the YAML file given with
`--config` (`learning_rate: 0.001`), a keyword of `qa_lora.TrainConfig`, and a control on the Train
tab. All four know the same bounds."""


def allowed(schema: dict[str, Any]) -> str:
    """The values a setting takes, in words, from its JSON schema."""
    branches = schema.get("anyOf", [schema])
    one = next(branch for branch in branches if branch.get("type") != "null")
    if "enum" in one:
        return ", ".join(f"`{value}`" for value in one["enum"])
    if one["type"] == "array":
        return f"list of at most {one['maxItems']} texts"
    if one["type"] == "boolean":
        return "`true` or `false`"
    if one["type"] == "string":
        return f"text of at most {one['maxLength']} signs" if "maxLength" in one else "text"
    kind = "whole number" if one["type"] == "integer" else "number"
    bounds = [
        f"{words} {one[key]:,}"
        for key, words in {
            "minimum": "from",
            "exclusiveMinimum": "above",
            "maximum": "to",
            "exclusiveMaximum": "below",
        }.items()
        if key in one
    ]
    return " ".join([kind, *bounds])


def yaml_value(value: Any) -> str:
    """A plain value as YAML writes it."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"[{', '.join(text.splitlines())}]" if "\n" in text else text


def shown(value: Any) -> str:
    """A default as the table shows it."""
    if value in (None, "", ()):
        return "empty"
    return f"`{yaml_value(value)}`"


def text() -> str:
    """All of docs/settings.md."""
    properties = TrainConfig.model_json_schema()["properties"]
    defaults = {name: field.default for name, field in TrainConfig.model_fields.items()}
    parts = [INTRODUCTION]
    for group in GROUPS:
        parts += [
            f"\n## {group}\n",
            "| setting | default | takes | what it does |",
            "|---|---|---|---|",
        ]
        parts += [
            f"| `{name}` | {shown(defaults[name])} | {allowed(schema)} | {schema['description']} |"
            for name, schema in properties.items()
            if schema["group"] == group
        ]
    parts += ["\n## Presets\n", "A preset changes these defaults; a setting given beside it wins."]
    for preset, changes in PRESETS.items():
        parts += [f"\n**{preset}**"]
        parts += [f"- `{name}: {yaml_value(value)}`" for name, value in changes.items()] or [
            "- the defaults"
        ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
