"""The files of a run that are published: adapter, tokenizer, prompt, card, the losses drawn."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from qa_lora.base_names import base_name, is_bundled, is_local
from qa_lora.card import gather, loss_plot, write_card
from qa_lora.checksums import CHECKSUMS, digest_of, find_damage
from qa_lora.errors import PublishError
from qa_lora.runs import Run

__all__ = ["CARD", "PLOT", "Collected", "collect", "made_by"]

WEIGHTS = "adapter_model.safetensors"
CARD = "README.md"
PLOT = "loss.png"
WANTED = (
    "adapter_config.json",
    WEIGHTS,
    "prompt.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
"""What is taken from an adapter's folder; nothing else that lies there is given away."""

PATH_KEYS = ("base_model_name_or_path", "name_or_path", "_name_or_path", "tokenizer_file")
"""Where libraries write down from which folder something was loaded."""

_MARK = re.compile(r"\n<!-- qa-lora run=(?P<run>[\w.-]*) sha256=(?P<digest>[0-9a-f]{64}) -->\n?\Z")


class Collected:
    """The files as they will be uploaded, and what should be known about them.

    Attributes:
        files: By name, the content; that of the weights as the path where they lie.
        digests: By name, the SHA-256 of the content.
        notes: Sentences.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes | Path] = {}
        self.digests: dict[str, str] = {}
        self.notes: list[str] = []


def collect(run: Run, repo_id: str, *, licence: str = "", examples: int | None = None) -> Collected:
    """Read a run's adapter, take this machine's folders out of it, and write its card.

    Args:
        run: A run with an adapter that nobody works on.
        repo_id: From where the card says that it is loaded.
        licence: Of the adapter, if its maker chose one.
        examples: How many held-out questions the card shows with their answers; if None a few, but
            none of data that lies on this machine alone.

    Raises:
        PublishError: If there is no adapter, it is damaged or still in the making.
        RunError: If the run's settings are missing or damaged.
    """
    if not run.has_adapter():
        raise PublishError(
            f"The run {run.id} has no adapter yet.", "It is kept after the first validation."
        )
    if run.alive():
        raise PublishError(
            f"The run {run.id} is still being worked on.", "Wait until it has ended, or stop it."
        )
    damage = find_damage(run.adapter, [WEIGHTS]) if (run.adapter / CHECKSUMS).is_file() else None
    if damage is not None or not (run.adapter / WEIGHTS).is_file():
        raise PublishError(
            f"The adapter of {run.id} is damaged: {damage or f'{WEIGHTS} is missing'}."
        )
    facts = gather(run)
    found = Collected()
    try:
        for name in WANTED:
            path = run.adapter / name
            if path.is_file() and not path.is_symlink():
                data = path if name == WEIGHTS else path.read_bytes()
                found.files[name] = (
                    data if isinstance(data, Path) else _clean(name, data, facts.config.model)
                )
    except OSError as error:
        raise PublishError(
            f"The adapter of {run.id} cannot be read: {error.strerror or error}."
        ) from None
    plot = loss_plot(facts.losses, facts.validation)
    if plot is not None:
        found.files[PLOT] = plot
    card = write_card(
        facts,
        adapter=repo_id,
        licence=licence,
        plot=PLOT if plot is not None else "",
        examples=examples,
    )
    found.files[CARD] = _marked(card, run.id).encode()
    found.digests = {name: _digest(content) for name, content in sorted(found.files.items())}
    lines = [f"{digest}  {name}\n" for name, digest in found.digests.items()]
    found.files[CHECKSUMS] = "".join(lines).encode()
    found.digests[CHECKSUMS] = _digest(found.files[CHECKSUMS])
    found.notes = _notes(run, facts.config.model, licence, scored=facts.report is not None)
    return found


def made_by(card: str) -> tuple[str, bool] | None:
    """Which run a card on the Hub was written from.

    Returns:
        The run's id, and whether the card is still as it was written; None if it is not ours.
    """
    card = card.replace("\r\n", "\n")
    match = _MARK.search(card)
    if match is None:
        return None
    return match["run"], hashlib.sha256(card[: match.start()].encode()).hexdigest() == match[
        "digest"
    ]


def _marked(card: str, run_id: str) -> str:
    """The card with a line, not shown, that says which run it is of and what it was."""
    card = card.rstrip("\n")
    digest = hashlib.sha256(card.encode()).hexdigest()
    return f"{card}\n<!-- qa-lora run={mark_of(run_id)} sha256={digest} -->\n"


def mark_of(run_id: str) -> str:
    """A run's id as it stands in a card."""
    return re.sub(r"[^\w.-]", "-", run_id, flags=re.ASCII)


def _clean(name: str, data: bytes, base: str) -> bytes:
    """A settings file in which folders of this machine are replaced by the base's name."""
    if not name.endswith(".json") or name == "tokenizer.json":
        return data
    try:
        values = json.loads(data)
    except ValueError:
        return data
    changed = False
    if isinstance(values, dict):
        for key in PATH_KEYS:
            value: Any = values.get(key)
            if isinstance(value, str) and is_local(value):
                values[key] = base_name(base if name == "adapter_config.json" else value)
                changed = changed or values[key] != value
    return json.dumps(values, indent=2, ensure_ascii=False).encode() if changed else data


def _digest(content: bytes | Path) -> str:
    return digest_of(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()


def _notes(run: Run, base: str, licence: str, *, scored: bool) -> list[str]:
    notes = []
    if is_bundled(base):
        notes.append("Its base is pocket: who loads the adapter needs QA LoRA, which brings it.")
    elif is_local(base) and "/" not in base_name(base):
        notes.append(
            f"Its base {base_name(base)} is a folder of this machine: who loads the adapter needs "
            "that model."
        )
    if not scored:
        notes.append("There are no scores yet: evaluate the run first, and the card has them.")
    if not licence:
        notes.append("No licence is named: without one nobody may be sure to use it.")
    others = sorted(
        path.name
        for path in run.adapter.iterdir()
        if path.name not in (*WANTED, CARD, CHECKSUMS) and not path.name.startswith(".")
    )
    if others:
        notes.append(f"Left out, for they are no part of an adapter: {', '.join(others)}.")
    return notes
