"""Who may do what on a server that strangers can reach: settings from the environment.

On a laptop nothing is limited. On a Space, or wherever others can connect, a visitor sees and
changes only what is theirs, within limits; each is a variable of the environment, and
``docs/serving.md`` has them all.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from qa_lora.catalog import POCKET
from qa_lora.data.sources import UPLOAD_LIMIT_BYTES
from qa_lora.errors import ConfigError, shorten
from qa_lora.sign_in import missing_for_sign_in

__all__ = ["PREFIX", "PUBLIC_DEFAULTS", "Login", "ServerSettings", "is_loopback"]

PREFIX = "QA_LORA_"

_SPACE = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_USER = re.compile(r"[^\s:,]{1,64}")

Login: TypeAlias = Literal["none", "password", "huggingface"]

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
    login: Login = _setting(
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
    sign_in: bool = _setting(
        False, "Whether visitors are offered to sign in with Hugging Face; concluded, not set."
    )

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
            if name not in ("space_id", "sign_in") and environment.get(variable(name), "").strip()
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
        # A password has a login of its own; in a demo there is nothing to sign in for.
        useful = settings.login == "huggingface" or (
            settings.login == "none" and not settings.read_only
        )
        sign_in = useful and not missing_for_sign_in(environment)
        return settings.model_copy(update={"sign_in": sign_in})

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
        if self.login != "huggingface":
            return
        if missing := missing_for_sign_in(environment):
            raise ConfigError(f"QA_LORA_LOGIN is huggingface. {missing}")
        if not self.public:
            raise ConfigError(
                "QA_LORA_LOGIN is huggingface, but QA_LORA_PUBLIC is 0: then all is everybody's, "
                "and nobody needs to sign in.",
                "Leave one of the two out.",
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


def _problem(error: ValidationError) -> str:
    """The first problem in one sentence; what is secret is not quoted."""
    problem = error.errors(include_url=False, include_context=False)[0]
    name = str(problem["loc"][0])
    text = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    value = "" if name == "auth" else f" (it is {shorten(str(problem['input']))!r})"
    return f"{variable(name)}: {text}{value}."
