"""Who may do what on a server that strangers can reach: settings from the environment.

On a laptop nothing is limited. On a Space, or wherever others can connect, a visitor sees and
changes only what is theirs, within limits; each is a variable of the environment, and
``docs/serving.md`` has them all.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from qa_lora.catalog import HUB_ID, POCKET
from qa_lora.config import SOURCES, TrainConfig
from qa_lora.data.sources import UPLOAD_LIMIT_BYTES, Source, parse
from qa_lora.errors import ConfigError, DataError, ModelError, shorten
from qa_lora.presets import PRESETS

__all__ = ["CEILINGS", "PREFIX", "PUBLIC_DEFAULTS", "ServerSettings", "is_inside", "is_loopback"]

PREFIX = "QA_LORA_"

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

_SPACE = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_USER = re.compile(r"[^\s:,]{1,64}")

Limit = Annotated[int, Field(ge=0)]
"""0 is no limit."""


def _setting(default: Any, help: str) -> Any:
    return Field(default, description=help, validate_default=True)


class ServerSettings(BaseModel):
    """How the app is served.

    Raises:
        ConfigError: From :meth:`from_environment`, naming the variable.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    public: bool = _setting(
        False,
        "Whether visitors are strangers to each other. Empty: true on a Space and wherever the "
        "app listens on more than this machine.",
    )
    visibility: Literal["own", "all"] = _setting(
        "own", "Which runs a visitor sees on a public server: their own, or all."
    )
    read_only: bool = _setting(
        False, "A demo: runs can be opened, compared and asked, and nothing can be changed."
    )
    login: Literal["none", "password", "huggingface"] = _setting(
        "none",
        "How visitors log in; password needs QA_LORA_AUTH, huggingface works on a Space.",
    )
    auth: SecretStr = _setting(
        SecretStr(""), "Names and passwords, as in ann:secret,ben:secret2; never shown or logged."
    )
    max_upload_mb: Limit = _setting(0, "Largest file that can be uploaded, in MB.")
    max_rows: Limit = _setting(0, "Most rows that a training reads.")
    max_steps: Limit = _setting(0, "Most optimizer steps of a training.")
    max_minutes: Limit = _setting(0, "Most minutes that a training takes.")
    max_runs: Limit = _setting(0, "Most runs that a visitor keeps.")
    max_waiting: Limit = _setting(0, "Most runs of a visitor that train or wait at a time.")
    max_disk_mb: Limit = _setting(0, "Most disk that a visitor's runs and uploads take, in MB.")
    models: tuple[str, ...] = _setting(
        (), "Base models that can be trained, comma-separated; any when empty."
    )
    space_id: str = _setting("", "The Space that this is, set by the Space itself.")

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] = os.environ, address: str = "127.0.0.1"
    ) -> ServerSettings:
        """Read the variables that begin with QA_LORA_.

        Args:
            environment: The variables.
            address: Where the app listens.

        Raises:
            ConfigError: If one of them is wrong, in one sentence that names it.
        """
        space_id = environment.get("SPACE_ID", "")
        if not _SPACE.fullmatch(space_id):
            space_id = ""
        given: dict[str, Any] = {
            name: environment[variable(name)].strip()
            for name in cls.model_fields
            if name != "space_id" and environment.get(variable(name), "").strip()
        }
        if "models" in given:
            names = (name.strip() for name in given["models"].split(","))
            given["models"] = () if given["models"] == "*" else tuple(filter(None, names))
        public = given.setdefault(
            "public",
            bool(environment.get("SPACE_ID"))
            or not is_loopback(address)
            or environment.get("GRADIO_SHARE", "").lower() in ("1", "true"),
        )
        try:
            is_public = cls(public=public).public
            values = {**(PUBLIC_DEFAULTS if is_public else {}), **given, "space_id": space_id}
            settings = cls(**values)
        except ValidationError as error:
            raise ConfigError(_problem(error)) from None
        settings._check_login(environment)
        return settings

    def _check_login(self, environment: Mapping[str, str]) -> None:
        has_auth = bool(self.auth.get_secret_value())
        if self.login == "password" and not has_auth:
            raise ConfigError(
                "QA_LORA_LOGIN is password, but QA_LORA_AUTH is empty.",
                "Set it to user:password, several with commas between them.",
            )
        if self.login != "password" and has_auth:
            raise ConfigError(
                f"QA_LORA_AUTH is set, but QA_LORA_LOGIN is {self.login}.",
                "Set QA_LORA_LOGIN=password to ask for the password.",
            )
        if has_auth:
            self.accounts()
        if self.login == "huggingface" and not environment.get("OAUTH_CLIENT_ID"):
            raise ConfigError(
                "QA_LORA_LOGIN is huggingface, which works on a Space with hf_oauth: true only.",
                "Use QA_LORA_LOGIN=password elsewhere.",
            )

    def accounts(self) -> dict[str, str]:
        """Names and passwords of QA_LORA_AUTH.

        Raises:
            ConfigError: If it is no list of user:password; the sentence does not quote it.
        """
        found: dict[str, str] = {}
        for entry in self.auth.get_secret_value().split(","):
            user, colon, password = entry.strip().partition(":")
            if not colon or not password or not _USER.fullmatch(user) or user in found:
                raise ConfigError(
                    "QA_LORA_AUTH must be user:password, several with commas between them, each "
                    "user once."
                )
            found[user] = password
        return found

    @property
    def upload_bytes(self) -> int:
        """Largest file that can be uploaded."""
        return min(self.max_upload_mb * 1024**2 or UPLOAD_LIMIT_BYTES, UPLOAD_LIMIT_BYTES)

    @property
    def duplicate_url(self) -> str:
        """Where the Space is copied; empty elsewhere."""
        if not self.space_id:
            return ""
        return f"https://huggingface.co/spaces/{self.space_id}?duplicate=true"

    def sentence(self) -> str:
        """What visitors can do here, in a sentence; empty where nothing is limited."""
        if self.read_only:
            more = " Duplicate this Space to train your own." if self.space_id else ""
            return (
                "This is a demo: its runs can be opened, compared and asked, but not changed."
                + more
            )
        limits = [
            f"{self.max_steps:,} steps" if self.max_steps else "",
            f"{self.max_minutes:,} minutes" if self.max_minutes else "",
            f"{self.max_rows:,} rows" if self.max_rows else "",
        ]
        named = [limit for limit in limits if limit]
        if not named:
            return ""
        whose = " Your runs are seen by you only." if self.visibility == "own" else ""
        whose = whose if self.public else ""
        joined = ", ".join(named[:-1]) + " and " + named[-1] if len(named) > 1 else named[0]
        return f"A training here takes at most {joined}.{whose}"

    def admit(
        self, config: TrainConfig, uploads: Path, runs_dir: Path, is_run: Callable[[str], bool]
    ) -> TrainConfig:
        """A training as this server would do it: what is empty becomes the limit.

        Args:
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
        for setting, most in (("max_steps", self.max_steps), ("max_rows", self.max_rows)):
            asked = getattr(config, setting)
            if most and asked is None:
                changes[setting] = most
            elif most and asked > most:
                raise self._too_much(f"{setting.removeprefix('max_')}", most, asked)
        if self.max_minutes and not config.max_minutes:
            changes["max_minutes"] = float(self.max_minutes)
        elif self.max_minutes and config.max_minutes > self.max_minutes:
            raise self._too_much("minutes", self.max_minutes, config.max_minutes)
        if self.models and config.model not in self.models:
            raise ModelError(
                f"This server trains {_listed(self.models)} only, not {shorten(config.model)}.",
                self._elsewhere("Choose another model"),
            )
        if self.public and config.backup:
            raise ConfigError(
                "Where backups go is set by whoever runs this server.", "Leave backup empty."
            )
        if self.public:
            for setting, most in CEILINGS.items():
                if getattr(config, setting) > most:
                    raise self._too_much(setting, most, getattr(config, setting))
            self._refuse_paths(config, uploads, runs_dir, is_run)
            if any(source.repo for source in _sources(config)):
                changes["streaming"] = True  # nothing of the Hub's is kept on this disk
        return config.model_copy(update=changes)

    def check_answers(self, max_new_tokens: int, num_beams: int) -> None:
        """Refuse answers that would keep the model from the other visitors for long.

        Raises:
            ConfigError: If they are longer, or followed by more beams, than the server gives.
        """
        if self.public and max_new_tokens > CEILINGS["max_new_tokens"]:
            raise self._too_much("tokens an answer", CEILINGS["max_new_tokens"], max_new_tokens)
        if self.public and num_beams > MOST_BEAMS:
            raise self._too_much("beams", MOST_BEAMS, num_beams)

    def rows_to_score(self, asked: int | None) -> int | None:
        """How many questions an evaluation has: what was asked for, or the server's most.

        Raises:
            ConfigError: If more is asked for than the server gives.
        """
        most = CEILINGS["score_rows"]
        if not self.public:
            return asked
        if asked is not None and asked > most:
            raise self._too_much("questions", most, asked)
        return asked or most

    def _refuse_paths(
        self, config: TrainConfig, uploads: Path, runs_dir: Path, is_run: Callable[[str], bool]
    ) -> None:
        """Of what lies on this server, only bundled things and the visitor's own are read."""
        if config.model != POCKET and (not _on_hub(config.model) or Path(config.model).exists()):
            raise DataError(
                f"{shorten(config.model)} is a path on this server, which visitors cannot use.",
                "Name a model of the Hub.",
            )
        for source in self._sources_of_a_visitor(config):
            path = source.path
            if path is not None and not is_inside(path, uploads):
                raise _a_path(source.name)
            if source.file is not None and source.name not in _PRESET_FILES:
                raise DataError(
                    f"{shorten(source.name)} is a single file of the Hub, which would be copied to "
                    "this server.",
                    self._elsewhere("Name the data set instead, or upload the file"),
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

    def _sources_of_a_visitor(self, config: TrainConfig) -> list[Source]:
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

    def _too_much(self, what: str, most: int, asked: float) -> ConfigError:
        return ConfigError(
            f"This server gives at most {most:,} {what.replace('_', ' ')} (asked for: {asked:,g}).",
            self._elsewhere("Ask for less"),
        )

    def _elsewhere(self, first: str) -> str:
        where = "duplicate the Space" if self.space_id else "run QA LoRA on a machine of your own"
        return f"{first}, or {where}."


PUBLIC_DEFAULTS: dict[str, Any] = {
    "max_upload_mb": 20,
    "max_rows": 20_000,
    "max_steps": 2_000,
    "max_minutes": 30,
    "max_runs": 20,
    "max_waiting": 2,
    "max_disk_mb": 500,
    "models": (POCKET, "google/flan-t5-small"),
}
"""What a public server allows where its variables say nothing."""

_PRESET_FILES = frozenset(
    line for values in PRESETS.values() for line in str(values.get("data", "")).splitlines()
)


def variable(name: str) -> str:
    """The environment's name for a setting."""
    return PREFIX + name.upper()


def is_loopback(address: str) -> bool:
    """Whether only this machine can connect to an address."""
    if address.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False


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


def _problem(error: ValidationError) -> str:
    """The first problem in one sentence; what is secret is not quoted."""
    problem = error.errors(include_url=False, include_context=False)[0]
    name = str(problem["loc"][0])
    text = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    value = "" if name == "auth" else f" (it is {shorten(str(problem['input']))!r})"
    return f"{variable(name)}: {text}{value}."
