"""Base models and adapters of a Hub, fetched by the app's own processes over a real connection."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import safetensors.torch

from qa_lora import runs
from qa_lora.config import TrainConfig
from qa_lora.data import load as load_data
from qa_lora.data.hub_tables import commits_of
from qa_lora.data.sources import parse
from qa_lora.errors import DataError, ModelError, QALoRAError
from qa_lora.events import Downloading, Finished, Scored
from qa_lora.hub_downloads import describe, under_way
from qa_lora.locate import locate
from qa_lora.models import load_base, load_tokenizer
from qa_lora.ui.compare.asking import take_turn
from qa_lora.ui.engine import Engine
from qa_lora.ui.header import light_html
from tests.flan_like import make_model
from tests.forked import Child, qa_lora_command, several
from tests.loopback_hub import TOKEN, Hub

MODEL = "someone/flan-tiny"


@pytest.fixture(scope="module")
def flan(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a tiny model of FLAN-T5's shape, and what nobody should ever fetch."""
    folder = make_model(tmp_path_factory.mktemp("flan"))
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {
        **files,
        "pytorch_model.bin": b"pickle",
        "modeling.py": b"raise SystemExit",
        "README.md": b"# m",
    }


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(2400):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def trained(tmp_path: Path, qa_csv: Path, environment: dict[str, str], **more: str) -> str:
    """What a short training by Hub id says on stderr; empty if it succeeds."""
    options = {"max-steps": "2", "score-rows": "2", "max-new-tokens": "4", **more}
    words = [word for key, value in options.items() for word in (f"--{key}", value)]
    done = qa_lora_command(
        "train", "--model", MODEL, "--data", str(qa_csv), "--runs-dir", str(tmp_path / "runs"),
        "--json", *words, cwd=tmp_path, environment=environment,
    )  # fmt: skip
    assert done.returncode in (0, 2), done.stderr
    assert (
        done.stderr.count("qa-lora: ") == (done.returncode == 2) and "Traceback" not in done.stderr
    )
    return done.stderr if done.returncode else ""


def test_a_model_is_fetched_once_pinned_and_used_without_the_hub(
    hub: Hub,
    flan: dict[str, bytes],
    qa_csv: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repo = hub.add("model", MODEL, flan, private=True)
    sha = repo.sha
    hub.cut("GET .*model.safetensors", 100_000)
    online = hub.environment(tmp_path / "home", TOKEN)
    assert trained(tmp_path, qa_csv, online) == ""
    assert [line.split("resolve/")[1].split()[1] for line in hub.ranges] == ["bytes=100000-"]
    fetched = {line.rsplit("/", 1)[-1] for line in hub.seen if line.startswith("GET /someone")}
    assert fetched == set(flan) - {"pytorch_model.bin", "modeling.py", "README.md"}

    (run,) = runs.list_runs(tmp_path / "runs")
    environment = json.loads((run.path / "environment.json").read_text("utf-8"))
    assert environment["base"] == {"model": MODEL, "commit": sha}
    total = sum(len(flan[name]) for name in fetched)
    told = [event for event in run.events() if isinstance(event, Downloading)]
    assert told[-1] == Downloading(MODEL, total, total)
    assert isinstance(run.events()[-1], Scored)

    # The page shows what it waits for, and Stop ends the waiting.
    with monkeypatch.context() as here:
        hub.enter(here, tmp_path / "cold", TOKEN)
        hub.hold("GET .*model.safetensors", 60_000)
        done = total - len(flan["model.safetensors"]) + 60_000  # all else comes first
        expected = f"Downloading {describe(MODEL, done, total)}…"
        engine, stop, waits = Engine(tmp_path / "runs"), threading.Event(), []
        with closing(take_turn(engine, run.id, ["base", "tuned"], (), (), stop)) as steps:
            for text in steps:
                waits.append(text)
                if text == expected:
                    assert f"downloading {100 * done // total}" in light_html(engine)
                    stop.set()
        assert waits[-1] == expected
        hub.let_go()
        assert under_way() == []

    # What was trained on one state is answered on it, whatever the Hub has since.
    repo.commit({**flan, "config.json": b"{}"}, "broken")
    for home, token, offline in (("home", "", "0"), ("home", "", "1"), ("other", TOKEN, "0")):
        seen = len(hub.seen)
        variables = {**hub.environment(tmp_path / home, token), "HF_HUB_OFFLINE": offline}
        done = qa_lora_command(
            "ask", "What?", "--run", str(run.path), "--max-new-tokens", "3", "--json",
            cwd=tmp_path, environment=variables,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert (len(hub.seen) > seen) == (home == "other")
    assert (
        repo.sha != sha == (tmp_path / "other/hub/models--someone--flan-tiny/refs/main").read_text()
    )


def test_what_the_hub_refuses_is_said_in_one_sentence(
    hub: Hub, flan: dict[str, bytes], qa_csv: Path, tmp_path: Path
) -> None:
    repo = hub.add("model", MODEL, flan)
    environment = hub.environment(tmp_path / "home")

    def said(token: str = "", **variables: str) -> str:
        changed = {**environment, "HF_TOKEN": token, **variables}
        return trained(tmp_path, qa_csv, changed)

    assert "not in the cache either, and HF_HUB_OFFLINE" in said(HF_HUB_OFFLINE="1")
    assert "could not be reached" in said(HF_ENDPOINT="http://127.0.0.1:9")
    assert "does not know the token" in said("hf_wrong")
    hub.fail("/api/models/", 403)
    assert "does not let this login read" in said()
    hub.fail("/api/models/", 429, headers={"Retry-After": "600"})
    assert "asked too often" in (text := said()) and "again in 600 seconds" in text
    repo.private = True
    assert "or it is private" in (text := said()) and "HF_TOKEN" in text
    repo.private, repo.gated = False, True
    assert "accepted its terms" in said()
    repo.gated = False
    del repo.files["model.safetensors"]
    repo.commit(repo.files, "no safetensors")
    assert "only as pytorch_model.bin" in said()
    config = {**json.loads(flan["config.json"]), "model_type": "gpt2", "is_encoder_decoder": False}
    repo.commit({**flan, "config.json": json.dumps(config).encode()}, "a decoder")
    assert "without an encoder" in said()
    # None of this has cost a byte of weights.
    assert not any("GET" in line and "model.safetensors" in line for line in hub.seen)
    assert not any("pytorch_model.bin" in line for line in hub.seen)
    # A part that is not what it should be is noticed at the end, by its checksum.
    repo.commit(flan, "whole again")
    blobs = tmp_path / "home" / "hub" / "models--someone--flan-tiny" / "blobs"
    name = hashlib.sha256(flan["model.safetensors"]).hexdigest()
    (blobs / f"{name}.qa-lora-part").write_bytes(b"?" * 1000)
    assert "was damaged on its way" in said()
    hub.fail("HEAD .*config.json", 500, times=2)
    hub.fail("GET .*model.safetensors", 429, headers={"Retry-After": "1"})
    assert said() == ""


def test_a_stopped_download_goes_on_where_it_was(
    hub: Hub, flan: dict[str, bytes], qa_csv: Path, tmp_path: Path
) -> None:
    hub.add("model", MODEL, flan)
    hub.hold("GET .*model.safetensors", 60_000)
    config = TrainConfig.build(
        model=MODEL, data=str(qa_csv), max_steps=2, score_rows=2, max_new_tokens=4
    )
    run = runs.create(config, tmp_path / "runs")
    environment = hub.environment(tmp_path / "home")

    def work() -> Child:
        return Child(_work, str(run.path), environment=environment)

    def downloaded() -> int:
        """Bytes of the large file; all else comes first."""
        told = [event for event in run.events() if isinstance(event, Downloading)]
        if not told:
            return 0
        return told[-1].bytes_done - told[-1].bytes_total + len(flan["model.safetensors"])

    first = work()
    wait_until(lambda: downloaded() == 60_000)
    assert run.status() == "starting"
    runs.stop(run)
    assert first.wait() == 0, first.err
    assert run.status() == "stopped" and run.can_resume()
    hub.let_go()

    hub.hold("GET .*model.safetensors", 50_000)
    second = work()
    wait_until(lambda: downloaded() == 110_000)
    second.signal(signal.SIGINT)
    assert second.wait() == 0, second.err
    assert run.status() == "stopped"
    hub.let_go()

    third = work()
    assert third.wait() == 0, third.err
    assert [line.split()[-1] for line in hub.ranges] == ["bytes=60000-", "bytes=110000-"]
    assert run.status() == "finished" and run.has_adapter()
    assert any(isinstance(event, Finished) for event in run.events())
    left = [path.name for path in (tmp_path / "home").rglob("*part")]
    assert left == []


def test_files_and_adapters_wait_for_a_hub_that_stumbles(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.enter(monkeypatch, tmp_path / "home")
    rows = "".join(json.dumps({"question": f"q{n}", "answer": "a"}) + "\n" for n in range(3000))
    repo = hub.add("dataset", "someone/rows", {"all.jsonl": rows.encode()})
    data = "hf://datasets/someone/rows/all.jsonl"
    hub.fail("/api/datasets/", 500)
    hub.fail("HEAD .*all.jsonl", 429, headers={"Retry-After": "0"})
    hub.cut("GET .*all.jsonl", 20_000)
    assert len(load_data(data).examples) == 3000
    assert commits_of(data) == {"someone/rows": repo.sha}

    hub.add("model", "someone/adapter", {"adapter_config.json": b"{}"}, private=True)
    monkeypatch.setattr("qa_lora.hub_access.WAITS", (0.01, 0.01))

    def refusal() -> str:
        with pytest.raises(ModelError) as caught:
            locate("someone/adapter", tmp_path)
        return str(caught.value)

    assert "has no adapter someone/adapter, or it is private" in refusal()
    hub.fail("someone/adapter", 500, times=100)
    assert "fault of its own" in refusal()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE forbids" in refusal()


def sharded(files: dict[str, bytes]) -> dict[str, bytes]:
    """The same model with its weights in two files, as large ones are kept."""
    files = dict(files)
    weights = safetensors.torch.load(files.pop("model.safetensors"))
    names, whole = sorted(weights), {}
    for number, part in enumerate((names[:7], names[7:]), 1):
        shard = f"model-0000{number}-of-00002.safetensors"
        some = {name: weights[name] for name in part}
        files[shard] = safetensors.torch.save(some, {"format": "pt"})
        whole |= dict.fromkeys(part, shard)
    index = {"metadata": {}, "weight_map": whole}
    return {**files, "model.safetensors.index.json": json.dumps(index).encode()}


def test_processes_that_train_together_fetch_once(
    hub: Hub, flan: dict[str, bytes], qa_csv: Path, tmp_path: Path
) -> None:
    hub.add("model", MODEL, sharded(flan))
    config = TrainConfig.build(
        model=MODEL, data=str(qa_csv), max_steps=2, score_rows=0, batch_size=4
    )
    run = runs.create(config, tmp_path / "runs")
    environment = hub.environment(tmp_path / "home")
    together = several(2, _train, str(run.path), cwd=tmp_path, environment=environment)
    assert [child.wait() for child in together] == [0, 0], together[0].err + together[1].err
    assert run.status() == "finished"
    fetched = [line.rsplit("/", 1)[-1] for line in hub.seen if line.startswith("GET /someone")]
    assert sorted(name for name in fetched if "safetensors" in name) == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]


@pytest.mark.parametrize(
    "name",
    [
        *("http://127.0.0.1/x", "//127.0.0.1/x", "hf://models/a/b", "file:///etc/passwd"),
        *("someone@127.0.0.1/x", "../../x", "a/..", "a/b/c/d", "a/b.git", "a//b", "a/b?x", "a b/c"),
        *("a--b/c", "-a/b", "a/b#c", "a%2F..%2Fb/c", "a/b\r\nHost: x", "hf://datasets/../x/y.csv"),
        *("hf://datasets/a/b/../../../x.csv", "hf://datasets/a--b/c/x.csv"),
    ],
)
def test_no_name_becomes_another_address(
    hub: Hub, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.enter(monkeypatch, tmp_path / "home")
    monkeypatch.chdir(tmp_path)
    for use in (load_base, load_tokenizer, locate):
        with pytest.raises(QALoRAError):
            use(name)
    if "\n" not in name:  # which is two sources
        with pytest.raises(DataError):
            parse(name)
    assert hub.seen == []


def _train(folder: str) -> int:
    from qa_lora import worker
    from qa_lora.runs import Run

    for _ in worker.execute(Run(Path(folder))):
        pass
    return 0


def _work(folder: str) -> int:
    from qa_lora import worker

    return worker.main([folder])
