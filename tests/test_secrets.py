"""Tokens and paths are found, and never repeated."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from qa_lora import runs
from qa_lora.config import TrainConfig
from qa_lora.errors import ConfigError, QALoRAError, first_line
from qa_lora.secrets import Finding, find_secrets, guard_output, holds_token, redact

HUB = "hf_" + "aB3" * 11 + "x"
TEXTS = {
    "a Hugging Face token": f"token: {HUB}",
    "a GitHub token": "ghp_" + "a1B2" * 9,
    "an OpenAI or Anthropic key": "sk-ant-" + "a1-B2_" * 9,
    "an AWS key": "AKIA" + "ABCD" * 4,
    "a Google key": "AIza" + "abcDE" * 7,
    "a Slack token": "xoxb-12345678-abcdefgh",
    "a private key": "-----BEGIN RSA PRIVATE KEY-----",
    "a password in an address": "https://me:secret1@example.org/x",
    "a JSON web token": "eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.SflKxwRJSMeKKF2",
}
PATHS = [
    "/home/someone/data.csv",
    '"/Users/someone/x"',
    "/tmp/x.csv",
    "file:///root/x",
    "C:\\\\Users\\\\me\\\\x.csv",
    r"D:\data\x.csv",
    r"\\server\share\x",
]
HARMLESS = [
    "hf_transfer and hf_hub_download, hf_",
    "https://example.org/home/someone/tmp/x",
    "https://huggingface.co/google/flan-t5-small",
    "a/tmp/b, ~/x, ./home/x, and/or, either / or",
    "someone@example.org wrote: 3:4",
    "C: the letter, x:\\n",
    '{"Ġ/home": 12, "/tmp": 3, "sk-": 4, "\\\\": 5, ":\\\\": 6}',
    "task-sk-learn",
]


@pytest.mark.parametrize("what", TEXTS)
def test_tokens_are_found_by_line_and_not_repeated(what: str) -> None:
    data = f"one\ntwo {TEXTS[what]} three\n".encode()
    assert find_secrets("a.json", data) == [Finding("a.json", 2, what)]
    secret = TEXTS[what].removeprefix("token: ").split("secret1")[0]
    text = redact(f"GET {TEXTS[what]} failed")
    assert "secret1" not in text and (secret not in text or what == "a password in an address")
    assert holds_token(TEXTS[what])


@pytest.mark.parametrize("path", PATHS)
def test_absolute_paths_are_found(path: str) -> None:
    assert [f.what for f in find_secrets("a.md", f"in {path}\n".encode())] == ["an absolute path"]
    assert not holds_token(path)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_harmless_is_let_through(text: str) -> None:
    assert find_secrets("a.md", text.encode()) == []
    assert redact(text) == text


def test_folders_of_this_machine_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/srv/people/me")
    data = b"/srv/people/me/x /opt/runs/r1 /opt/runsets"
    assert len(find_secrets("x", b"a\n/srv/people/me/x")) == 1
    assert [
        f.line for f in find_secrets("x", b"/opt/runsets\n/opt/runs/r", [Path("/opt/runs")])
    ] == [2]
    assert len(find_secrets("x", data)) == 1


def test_tokens_that_this_process_knows_are_found_whatever_they_look_like(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine api.example.org login me password correct-horse\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    netrc.rename(tmp_path / ".netrc")
    text = "0123456789abcdef and correct-horse"
    assert [f.what for f in find_secrets("x", text.encode())] == ["a token that this machine uses"]
    assert redact(text) == "… and …"
    packed = b"\0\1" + text.encode()
    assert find_secrets("x.bin", packed) == [Finding("x.bin", 0, "a token that this machine uses")]


def test_the_header_of_safetensors_is_read() -> None:
    header = json.dumps({"__metadata__": {"from": "/home/me/x", "by": HUB}}).encode()
    data = len(header).to_bytes(8, "little") + header + b"\0" * 64
    found = {f.what for f in find_secrets("a.safetensors", data)}
    assert found == {"an absolute path", "a Hugging Face token"}
    assert find_secrets("a.safetensors", b"\xff" * 8 + b"\0" * 9) == []  # damaged


def test_no_error_repeats_a_token() -> None:
    error = QALoRAError(f"Failed for {HUB}.", f"See https://me:pass1@x.org?token={HUB}.")
    assert HUB not in repr(error) + str(error) + error.message + error.hint
    assert HUB not in first_line(ValueError(f"Authorization: Bearer {HUB}\nmore"))


def test_what_a_process_prints_is_guarded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout", sys.stdout)
    monkeypatch.setattr("sys.stderr", sys.stderr)
    guard_output()
    print(f"said {HUB}")
    sys.stderr.writelines([f"wrote {HUB}\n"])
    out, err = capsys.readouterr()
    assert (out, err) == ("said hf_…\n", "wrote hf_…\n")


def test_no_token_gets_into_the_settings_of_a_run(tmp_path: Path) -> None:
    config = TrainConfig.build(data=f"https://me:{HUB}@example.org/x.csv")
    with pytest.raises(ConfigError, match="token or a password in data") as caught:
        runs.create(config, tmp_path / "runs")
    assert HUB not in str(caught.value) and not (tmp_path / "runs").exists()
