"""What must not be written down or given away: tokens, keys, passwords, paths of this machine.

Formats of tokens are those that their services document. No guesses by entropy: in a tokenizer's
vocabulary everything looks random.
"""

from __future__ import annotations

import netrc
import os
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

__all__ = ["Finding", "find_secrets", "guard_output", "holds_token", "print_redacted", "redact"]


@dataclass(frozen=True)
class Finding:
    """Something in a file that should not leave this machine."""

    file: str
    line: int
    """Counted from 1; 0 in a file that is no text."""
    what: str
    """Such as "a Hugging Face token"; never the thing itself."""

    def __str__(self) -> str:
        place = f"{self.file}, line {self.line}" if self.line else self.file
        return f"{place}: {self.what}"


_START, _END = r"(?<![A-Za-z0-9_])", r"(?![A-Za-z0-9])"
TOKENS = {
    "a Hugging Face token": r"(?:hf_oauth_[\w.-]{20,}|(?:hf_|api_org_)[A-Za-z0-9]{20,})",
    "a GitHub token": r"(?:gh[oprsu]_[A-Za-z0-9]{36,}|github_pat_\w{50,})",
    "a GitLab token": r"glpat-[\w-]{20,}",
    "an OpenAI or Anthropic key": r"sk-[\w-]{20,}",
    "an AWS key": r"(?:AKIA|ASIA)[0-9A-Z]{16}",
    "a Google key": r"AIza[\w-]{35}",
    "a Slack token": r"xox[abeoprs]-[\w-]{10,}",
    "a PyPI token": r"pypi-AgE[\w-]{50,}",
    "a Stripe key": r"[rs]k_live_[A-Za-z0-9]{20,}",
    "a Weights & Biases key": r"wandb_v1_[\w-]{20,}",
    "a JSON web token": r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
}
_TOKENS = {what: re.compile(_START + pattern + _END) for what, pattern in TOKENS.items()}
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----(?:.*?-----END [A-Z ]*PRIVATE KEY[A-Z ]*-----)?",
    re.DOTALL,
)
_PASSWORD = re.compile(r"(?<=://)([^\s/:@\"']{0,100}):([^\s/@\"']{1,200})@")
_BEARER = re.compile(
    r"(?i)\b(bearer|authorization['\"]?\s*[:=]\s*(?:['\"]?basic)?)\s+[\w.~+/=-]{8,}"
)

_BEFORE_PATH = r"(?:(?<![\w.\-/~:\\])|(?<=file://))"
_PATHS = re.compile(
    _BEFORE_PATH + r"/(?:home|Users)/[^/\s\"']+|"
    + _BEFORE_PATH + r"/(?:root|tmp|var/folders|private/var|mnt|media)/[\w.\-]+|"
    r"(?<![A-Za-z0-9])[A-Za-z]:(?:\\{1,2}[\w .\-]{1,80}\\|/Users/)|"
    r"(?<![\w\\])\\\\[\w.\-]{1,80}\\[\w.$\-]{1,80}\\"
)  # fmt: skip
_NAMES_A_SECRET = re.compile(r"(?:^|_)(?:TOKENS?|SECRETS?|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY)$")
_SHORTEST = 8
"""A shorter value, such as "true" or "none", is no secret but would be found everywhere."""


def find_secrets(name: str, data: bytes, folders: Iterable[Path] = ()) -> list[Finding]:
    """Tokens, private keys, passwords in addresses, and absolute paths in a file.

    Args:
        name: The file's name, for the findings.
        data: What is in it. One that is no text is searched for tokens alone; safetensors for all
            in its header, and among the weights for this machine's own tokens.
        folders: Further folders of this machine that must not be named.

    Returns:
        One for each line and kind, in the order of the lines.
    """
    header = _safetensors_header(name, data)
    if header is None and b"\0" not in data[:8192]:
        return _in_text(name, data.decode("utf-8", "replace"), folders)
    found = _in_text(name, header, folders) if header is not None else []
    kinds = ["a token that this machine uses"] * any(value.encode() in data for value in _known())
    if header is None:
        text = data.decode("latin-1")
        kinds += [what for what, pattern in _TOKENS.items() if pattern.search(text)]
    known = {finding.what for finding in found}
    return found + [Finding(name, 0, what) for what in kinds if what not in known]


def _in_text(name: str, text: str, folders: Iterable[Path]) -> list[Finding]:
    found: dict[tuple[int, str], Finding] = {}

    def note(position: int, what: str) -> None:
        line = text.count("\n", 0, position) + 1
        found.setdefault((line, what), Finding(name, line, what))

    patterns = {
        **_TOKENS,
        "a private key": _PRIVATE_KEY,
        "a password in an address": _PASSWORD,
        "an absolute path": _PATHS,
    }
    for what, pattern in patterns.items():
        for match in pattern.finditer(text):
            note(match.start(), what)
    for value in _known():
        for match in re.finditer(re.escape(value), text):
            note(match.start(), "a token that this machine uses")
    for folder in _folders(folders):
        # "/root" alone may be a word of a vocabulary.
        after = r"(?![\w.\-])" if len(Path(folder).parts) > 2 else r"[/\\]"
        for match in re.finditer(_BEFORE_PATH + re.escape(folder) + after, text):
            note(match.start(), "an absolute path")
    return [found[key] for key in sorted(found)]


def holds_token(text: str) -> bool:
    """Whether a token, a key or a password stands in a text; paths do not count."""
    return redact(text) != text


def redact(text: str) -> str:
    """The text without tokens, keys and passwords, to be shown, logged or saved.

    Those that this process knows (environment, Hub login, netrc) are found whatever they look
    like, all others by their format.
    """
    for value in _known():
        text = text.replace(value, _instead(value))
    for pattern in _TOKENS.values():
        text = pattern.sub(lambda match: _instead(match[0]), text)
    text = _BEARER.sub(lambda match: f"{match[1]} …", text)
    text = _PRIVATE_KEY.sub("(a private key)", text)
    return _PASSWORD.sub(lambda match: f"{match[1]}:…@", text)


def _instead(value: str) -> str:
    return "hf_…" if value.startswith("hf_") else "…"


def guard_output() -> None:
    """From now on, take tokens out of what this process prints, libraries and crashes included."""
    sys.stdout = cast(TextIO, _Guarded(sys.stdout))
    sys.stderr = cast(TextIO, _Guarded(sys.stderr))


class _Guarded:
    """A stream that redacts what is written to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(redact(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def print_redacted(kind: type[BaseException], error: BaseException, where: Any) -> None:
    """A crash on stderr, as `sys.excepthook` has it, without tokens."""
    import traceback

    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, where))))


def _known() -> list[str]:
    """The values of tokens and passwords that this process can use, the longest first."""
    values = {value for name, value in os.environ.items() if _NAMES_A_SECRET.search(name.upper())}
    hub = sys.modules.get("huggingface_hub")  # who has not loaded it has sent no token
    if hub is not None:
        with suppress(Exception):
            values.add(hub.get_token() or "")
    with suppress(OSError, netrc.NetrcParseError, RuntimeError):  # no such file, or no home
        values |= {entry[2] or "" for entry in netrc.netrc().hosts.values()}
    values = {value.strip() for value in values}
    return sorted((value for value in values if len(value) >= _SHORTEST), key=len, reverse=True)


def _folders(more: Iterable[Path]) -> set[str]:
    """Folders of this machine, each as it is called and as it really is."""
    paths = [Path.cwd(), *more]
    with suppress(RuntimeError):
        paths.append(Path.home())
    both = [path for given in paths for path in (given.absolute(), given.resolve())]
    return {str(path) for path in both if len(path.parts) > 1}


def _safetensors_header(name: str, data: bytes) -> str | None:
    if not name.endswith(".safetensors") or len(data) < 8:
        return None
    length = int.from_bytes(data[:8], "little")
    return data[8 : 8 + length].decode("utf-8", "replace") if length < len(data) else None
