"""What a server admits: a training, an answer or a scoring within its limits. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qa_lora.catalog import HUB_ID, POCKET
from qa_lora.config import SOURCES, TrainConfig
from qa_lora.data.sources import Source, parse
from qa_lora.errors import ConfigError, DataError, ModelError, shorten
from qa_lora.presets import PRESETS
from qa_lora.serving import ServerSettings

__all__ = ["CEILINGS", "admit", "check_answers", "is_inside", "rows_to_score"]

CEILINGS: dict[str, int] = {
    "batch_size": 128,
    "gradient_accumulation": 16,
    "lora_r": 64,
    "max_source_tokens": 1024,
    "max_target_tokens": 1024,
    "max_new_tokens": 512,
    "validation_rows": 500,
    "score_rows": 500,
    "probe_rows": 16,
}
"""Settings that make a single step or a scoring long, and their most on a public server."""

MOST_BEAMS = 8

_PRESET_FILES = frozenset(
    line for values in PRESETS.values() for line in str(values.get("data", "")).splitlines()
)


def admit(
    settings: ServerSettings,
    config: TrainConfig,
    uploads: Path,
    runs_dir: Path,
    is_run: Callable[[str], bool],
) -> TrainConfig:
    """A training as this server would do it: what is empty becomes the limit.

    Args:
        settings: How the server is run.
        config: What a visitor asks for.
        uploads: Where that visitor's uploads are kept.
        runs_dir: Where runs lie.
        is_run: Whether there is such a run for that visitor.

    Raises:
        ConfigError: If more is asked for than the server gives.
        DataError: If the data is a path on the server.
        ModelError: If the model is none of the server's.
    """
    changes: dict[str, Any] = {}
    for setting, most in (("max_steps", settings.max_steps), ("max_rows", settings.max_rows)):
        asked = getattr(config, setting)
        if most and asked is None:
            changes[setting] = most
        elif most and asked > most:
            raise _too_much(settings, f"{setting.removeprefix('max_')}", most, asked)
    if settings.max_minutes and not config.max_minutes:
        changes["max_minutes"] = float(settings.max_minutes)
    elif settings.max_minutes and config.max_minutes > settings.max_minutes:
        raise _too_much(settings, "minutes", settings.max_minutes, config.max_minutes)
    if settings.models and config.model not in settings.models:
        raise ModelError(
            f"This server trains {_listed(settings.models)} only, not {shorten(config.model)}.",
            _elsewhere(settings, "Choose another model"),
        )
    if settings.public and config.backup:
        raise ConfigError(
            "Where backups go is set by whoever runs this server.", "Leave backup empty."
        )
    if settings.public:
        for setting, most in CEILINGS.items():
            if getattr(config, setting) > most:
                raise _too_much(settings, setting, most, getattr(config, setting))
        _refuse_paths(settings, config, uploads, runs_dir, is_run)
        if any(source.repo for source in _sources(config)):
            changes["streaming"] = True  # nothing of the Hub's is kept on this disk
    return config.model_copy(update=changes)


def check_answers(settings: ServerSettings, max_new_tokens: int, num_beams: int) -> None:
    """Refuse answers that would keep the model from the other visitors for long.

    Raises:
        ConfigError: If they are longer, or followed by more beams, than the server gives.
    """
    if settings.public and max_new_tokens > CEILINGS["max_new_tokens"]:
        raise _too_much(settings, "tokens an answer", CEILINGS["max_new_tokens"], max_new_tokens)
    if settings.public and num_beams > MOST_BEAMS:
        raise _too_much(settings, "beams", MOST_BEAMS, num_beams)


def rows_to_score(settings: ServerSettings, asked: int | None) -> int | None:
    """How many questions an evaluation has: what was asked for, or the server's most.

    Raises:
        ConfigError: If more is asked for than the server gives.
    """
    most = CEILINGS["score_rows"]
    if not settings.public:
        return asked
    if asked is not None and asked > most:
        raise _too_much(settings, "questions", most, asked)
    return asked or most


def _refuse_paths(
    settings: ServerSettings,
    config: TrainConfig,
    uploads: Path,
    runs_dir: Path,
    is_run: Callable[[str], bool],
) -> None:
    """Of what lies on this server, only bundled things and the visitor's own are read."""
    if config.model != POCKET and (not _on_hub(config.model) or Path(config.model).exists()):
        raise DataError(
            f"{shorten(config.model)} is a path on this server, which visitors cannot use.",
            "Name a model of the Hub.",
        )
    for source in _sources_of_a_visitor(config):
        path = source.path
        if path is not None and not is_inside(path, uploads):
            raise _a_path(source.name)
        if source.file is not None and source.name not in _PRESET_FILES:
            raise DataError(
                f"{shorten(source.name)} is a single file of the Hub, which would be copied to "
                "this server.",
                _elsewhere(settings, "Name the data set instead, or upload the file"),
            )
    start = config.init_adapter
    if (
        start
        and not is_run(start)
        and (
            "/" not in start
            or not _on_hub(start)
            or Path(start).exists()
            or (runs_dir / start).exists()
        )
    ):
        raise ConfigError(
            f"There is no run {shorten(start)} here to go on from.",
            "Name one of your runs, or an adapter on the Hub.",
        )


def _sources_of_a_visitor(config: TrainConfig) -> list[Source]:
    """The sources; what is no source and looks like a path is refused as one that is there."""
    found: list[Source] = []
    for line in "\n".join(getattr(config, name) or "" for name in SOURCES).splitlines():
        try:
            found += parse(line) if line.strip() else ()
        except DataError:
            if line.strip()[0] in "/~.":
                raise _a_path(line.strip()) from None
            raise
    return found


def _too_much(settings: ServerSettings, what: str, most: int, asked: float) -> ConfigError:
    return ConfigError(
        f"This server gives at most {most:,} {what.replace('_', ' ')} (asked for: {asked:,g}).",
        _elsewhere(settings, "Ask for less"),
    )


def _elsewhere(settings: ServerSettings, first: str) -> str:
    where = "duplicate the Space" if settings.space_id else "run QA LoRA on a machine of your own"
    return f"{first}, or {where}."


def _sources(config: TrainConfig) -> list[Source]:
    texts = (getattr(config, name) for name in SOURCES)
    return [source for text in texts if text for source in parse(text)]


def _on_hub(name: str) -> bool:
    """Whether this may be a repository's name; one that begins with a dot is a path."""
    parts = name.split("/")
    return HUB_ID.fullmatch(name) is not None and not any(part[:1] == "." for part in parts)


def _a_path(name: str) -> DataError:
    return DataError(
        f"{shorten(name)} is a path on this server, which visitors cannot use.",
        "Upload a file, or name a repository on the Hub.",
    )


def is_inside(path: Path, folder: Path) -> bool:
    """Whether this is a file below a folder, wherever links lead."""
    try:
        return path.is_file() and folder.resolve() in path.resolve().parents
    except (OSError, RuntimeError, ValueError):
        return False


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
