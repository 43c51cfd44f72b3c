"""Data sets of a Hub, read by the real clients over a real connection."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from qa_lora.presets import PRESETS
from tests.loopback_hub import TOKEN, loopback_hub

ROOT = Path(__file__).parent.parent

SCRIPT = """
import json, sys
from qa_lora.config import TrainConfig
from qa_lora.data import cache, load, load_and_split, rows, store
from qa_lora.errors import DataError

def kept(config):
    # How many examples a second call opens without reading them again.
    cache.WORTH_BYTES = 1
    store.collect.__kwdefaults__ = {"in_memory": 1}
    read = rows._read_and_split
    load_and_split(config)
    rows._read_and_split = None
    try:
        return len(load_and_split(config)[0].examples)
    except TypeError:
        return "read again"
    finally:
        rows._read_and_split = read

for case in json.loads(sys.argv[1]):
    try:
        if case.pop("kept", False):
            print("RESULT " + json.dumps(kept(TrainConfig(**case))))
            continue
        data = load(**case)
        said = {
            "questions": [e.question for e in data.examples],
            "splits": list(data.splits),
            "form": data.form,
            "licence": data.sources[0].licence,
            "read": [data.rows_read, data.rows_in_source],
        }
    except DataError as error:
        said = {"error": str(error)}
    print("RESULT " + json.dumps(said))
"""


def lines(*questions: str) -> bytes:
    rows = [{"question": question, "answer": f"To {question}"} for question in questions]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def json_line(**row: Any) -> bytes:
    return json.dumps(row).encode() + b"\n"


def read(address: str, home: Path, cases: list[dict[str, Any]], token: str = "") -> list[Any]:
    environment = {
        **os.environ,
        "HF_ENDPOINT": address,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_TOKEN": token,
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(cases)],
        env=environment, capture_output=True, text=True, cwd=ROOT, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    return [json.loads(line.removeprefix("RESULT ")) for line in found]


def test_data_sets_files_streams_and_what_is_private(tmp_path: Path) -> None:
    card = b"---\nlicense: cc-by-4.0\n---\n# Lamps\n"
    many = lines(*(f"s{n}" for n in range(3000)))
    repos = {
        "me/lamps": {
            "README.md": card,
            "train.jsonl": lines("a", "b", "c"),
            "test.jsonl": lines("d"),
        },
        "me/long": {"data/train.jsonl": many},
        "me/secret": {"all.jsonl": lines("x", "y")},
        # the notebook's two, of whose second only the columns are known
        "Hello-SimpleAI/HC3": {
            "all.jsonl": json_line(question="h", human_answers=["1", "2"], chatgpt_answers=["3"]),
            "HC3.py": b"raise RuntimeError",
        },
        "MohamedRashad/ChatGPT-prompts": {
            "somehow.json": json_line(human_prompt="c", chatgpt_response="4"),
        },
    }
    file = "hf://datasets/me/lamps/test.jsonl"
    with loopback_hub(repos, {"me/secret"}) as (address, seen):
        whole, split, of_file, old, missing, stream, endless, secret, gone, notebook, *kept = read(
            address,
            tmp_path / "one",
            [
                {"data": "me/lamps"},
                {"data": "me/lamps split=train rows=2 revision=v1"},
                {"data": file},
                {"data": "hf://datasets/me/lamps@v1/test.jsonl"},
                {"data": "me/lamps split=nothing"},
                {"data": "me/long rows=5", "streaming": True},
                {"data": "me/long", "streaming": True},
                {"data": "me/secret"},
                {"data": "hf://datasets/me/none/all.jsonl"},
                {"data": PRESETS["Notebook"]["data"]},
                {"data": "me/lamps", "kept": True},
                {"data": "hf://datasets/Hello-SimpleAI/HC3/all.jsonl\nme/lamps", "kept": True},
                {"data": "me/long rows=5", "streaming": True, "kept": True},
            ],
        )
        (with_token,) = read(address, tmp_path / "two", [{"data": "me/secret"}], TOKEN)

    assert whole["questions"] == ["a", "b", "c", "d"]
    assert whole["splits"] == ["train"] * 3 + ["test"]
    assert whole["licence"] == "cc-by-4.0" and whole["form"] == "question and answer"
    assert split["questions"] == ["a", "b"] and split["splits"] == [None, None]
    assert split["read"] == [2, 3]
    assert of_file["questions"] == old["questions"] == ["d"]
    assert of_file["licence"] == "cc-by-4.0"
    assert "me/lamps could not be loaded from the Hub" in missing["error"]
    assert stream["questions"] == ["s0", "s1", "s2", "s3", "s4"]
    assert not list((tmp_path / "one" / "datasets").glob("me___long*"))
    assert "read as a stream, and nothing says how much" in endless["error"]
    for refused in (secret, gone):
        assert "or it is private" in refused["error"] and "hf auth login" in refused["error"]
    assert notebook["questions"] == ["h", "h", "h", "c"]
    assert notebook["form"] == "HC3 and ChatGPT-prompts"
    assert kept == [4, 7, "read again"]
    assert with_token["questions"] == ["x", "y"]
    assert any(line.startswith("GET /datasets/me/secret/resolve/") for line in seen)
