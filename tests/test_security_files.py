"""Files of strangers, what would run their code, and where the app listens."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qa_lora import processes, runs, terminal, trash
from qa_lora.adapter_weights import read_head
from qa_lora.backup.keeper import _snapshot
from qa_lora.errors import ModelError, QALoRAError
from qa_lora.locate import locate
from qa_lora.publishing.collect import collect
from qa_lora.run_zip import zip_run
from tests.forked import ROOT
from tests.made_runs import made_run, story, with_adapter

SOURCES = [*sorted((ROOT / "qa_lora").rglob("*.py")), ROOT / "app.py"]

RUNS_CODE = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads",
    "pickle.Unpickler", "joblib.load", "marshal.loads", "shelve.open", "yaml.unsafe_load",
    "yaml.full_load", "dill.load", "cloudpickle.load", "torch.hub.load", "runpy.run_path",
    "subprocess.getoutput", "pandas.read_pickle", "pd.read_pickle", "importlib.import_module",
}  # fmt: skip
ALLOWED = {
    # Names from tables in these files.
    ("qa_lora/__init__.py", "importlib.import_module"),
    ("qa_lora/data/__init__.py", "importlib.import_module"),
    ("qa_lora/bundled/make_facts.py", "importlib.import_module"),
}


def calls() -> list[tuple[str, str, ast.Call]]:
    """Each call in the source: the file, the dotted name, the call."""
    return [
        (path.relative_to(ROOT).as_posix(), ast.unparse(node.func), node)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute))
    ]


def given(call: ast.Call, name: str) -> str:
    return next((ast.unparse(k.value) for k in call.keywords if k.arg == name), "")


def test_nothing_that_is_read_can_run_code() -> None:
    for where, name, call in calls():
        assert name not in RUNS_CODE or (where, name) in ALLOWED, (where, call.lineno, name)
        if name == "torch.load":
            assert given(call, "weights_only") == "True", (where, call.lineno)
        if name in ("np.load", "numpy.load"):
            assert given(call, "allow_pickle") == "False", (where, call.lineno)
        if name.startswith("yaml.load"):
            assert where == "qa_lora/config.py", where  # its loaders are looked at below
        assert given(call, "shell") in ("", "False"), (where, call.lineno)
        assert given(call, "trust_remote_code") in ("", "False"), (where, call.lineno)
        if name.startswith("subprocess."):
            assert isinstance(call.args[0], ast.List), (where, call.lineno)  # no shell parses it
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names = {each.name for each in node.names}
                assert not names & {"pickle", "marshal", "shelve", "joblib", "dill"}, path


def test_settings_in_yaml_make_no_objects(tmp_path: Path) -> None:
    made = tmp_path / "made"
    for tag in (f"!!python/object/apply:os.mkdir ['{made}']", "!!python/name:os.system ''"):
        path = tmp_path / "config.yaml"
        path.write_text(f"model: {tag}\n")
        with pytest.raises(QALoRAError):
            runs.read_settings(path)
    assert not made.exists()


@pytest.mark.parametrize(
    ("size", "header"),
    [
        (2**63 - 1, {}),
        (10**9, {}),
        (None, {"x": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 2**60]}}),
        (None, {"x": {"dtype": "F32", "shape": [-1], "data_offsets": [8, 0]}}),
        (None, {"x": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}),
        (None, {"x": {"dtype": 7, "shape": "x", "data_offsets": None}}),
        (None, {"x": []}),
        (None, [1]),
    ],
)
def test_headers_of_weights_that_lie(tmp_path: Path, size: int | None, header: object) -> None:
    text = json.dumps(header).encode()
    content = struct.pack("<Q", len(text) if size is None else size) + text + b"\0" * 4
    (tmp_path / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(ModelError):
        read_head(tmp_path, "The adapter")


PARTS = ["adapter", "checkpoint", "evaluations", "events.jsonl", "worker.log", "environment.json"]


@pytest.mark.parametrize("part", PARTS)
def test_a_run_with_a_link_in_it_leads_nowhere(part: str, tmp_path: Path) -> None:
    outside = with_adapter(made_run(tmp_path, "outside", *story()))
    for name in ("checkpoint", "evaluations"):
        (outside.path / name).mkdir()
        (outside.path / name / "secret.json").write_text("SECRET")
    (outside.adapter / "adapter_model.safetensors").write_text("SECRET")
    for name in ("worker.log", "environment.json"):
        (outside.path / name).write_text("SECRET")
    before = {p: p.read_bytes() for p in outside.path.rglob("*") if p.is_file()}
    run = made_run(tmp_path / "runs", "linked")
    (run.path / part).unlink(missing_ok=True)
    (run.path / part).symlink_to(outside.path / part)

    assert run.status() == "damaged" and part in run.damage() and "link" in run.damage()
    assert [each.id for each in runs.list_runs(tmp_path / "runs")] == ["linked"]
    assert not run.has_adapter() and not run.can_resume()
    for use in (
        lambda: runs.resume(run), lambda: locate(run), lambda: collect(run, "a/b"), run.config,
    ):  # fmt: skip
        with pytest.raises(QALoRAError):
            use()
    assert all(part not in name for name in zip_run(run, tmp_path / "a.zip", checkpoints=True))
    assert b"SECRET" not in (tmp_path / "a.zip").read_bytes()
    assert not any(
        b"SECRET" in p.read_bytes() for p in _snapshot(run.path).rglob("*") if p.is_file()
    )
    trash.delete(run)
    trash.empty(tmp_path / "runs")
    assert {p: p.read_bytes() for p in outside.path.rglob("*") if p.is_file()} == before


def test_links_inside_of_a_runs_folders_are_not_taken_along(tmp_path: Path) -> None:
    run = with_adapter(made_run(tmp_path / "runs", "one", *story()))
    (run.path / "evaluations").mkdir()
    (tmp_path / "key").write_text("SECRET")
    for folder in ("adapter", "evaluations"):
        (run.path / folder / "key").symlink_to(tmp_path / "key")
    copied = _snapshot(run.path)
    assert (copied / "adapter" / "adapter_config.json").is_file()
    assert not list(copied.rglob("key"))


def test_no_text_steers_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.table import Table
    from rich.text import Text

    from qa_lora.cli import main

    nasty = "a\x1b]0;title\x07\x1b[2J\x1b[31mb\x9b31m\x08\x7f"
    shown = io.StringIO()
    console = terminal._Console(file=shown, force_terminal=True, color_system=None, width=200)
    table = Table()
    table.add_column(nasty)
    table.add_row(nasty)
    for each in (nasty, Text(nasty), table):
        console.print(each, markup=False)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown.getvalue())
    assert "title" in shown.getvalue()
    assert main(["ask", "Why?", "--run", f"no{nasty}", "--runs-dir", str(tmp_path)]) == 2
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", capsys.readouterr().err)


def test_a_name_writes_no_line_of_its_own_into_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qa_lora.config import TrainConfig
    from qa_lora.event_log import EventReader, append
    from qa_lora.events import Failed

    run = runs.create(
        TrainConfig.build(name="a\n../b\r\x1b[31m", prompt="x\ny {question}"), tmp_path
    )
    assert re.fullmatch(r"[A-Za-z0-9-]+", run.id) and run.path.parent == tmp_path
    append(run.events_path, Failed(1, 'x\n{"event": "finished"}\u2028y', "hint\n"))
    assert len(run.events_path.read_bytes().splitlines()) == 1
    assert [type(e) for e in EventReader(run.events_path).new()] == [Failed]


def test_patterns_do_not_take_for_ever(tmp_path: Path) -> None:
    """No pattern of the source hangs on texts that are made to hang one."""
    texts = [
        part * 4_000
        for part in ("a", " ", "-", "a@", "://a:", "![", "/a", "a.", "(a", "\n", "=a", "0")
    ]
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and re.fullmatch(r"re\.(?!escape)\w+", ast.unparse(node.func))
                and node.args
                and isinstance(node.args[0], ast.Constant)
                and isinstance(node.args[0].value, str)
            ):
                pattern = re.compile(node.args[0].value)
                for text in texts:
                    pattern.search(f"{text}!")
                    pattern.fullmatch(f"{text}!")


def listening(pid: int) -> set[str]:
    """The addresses that a process and its children listen on."""
    import psutil

    process = psutil.Process(pid)
    found = [c for each in (process, *process.children(True)) for c in each.net_connections("inet")]
    return {c.laddr.ip for c in found if c.status == psutil.CONN_LISTEN}


@pytest.mark.slow
def test_the_app_listens_on_this_machine_alone(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    known = {
        k: v for k, v in os.environ.items() if not k.startswith(("GRADIO_", "QA_LORA_", "SPACE"))
    }
    log = tmp_path / "log"
    with log.open("wb") as output:
        app = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, stdout=output, stderr=output,
            env={**known, "GRADIO_SERVER_PORT": str(port), "QA_LORA_RUNS_DIR": str(tmp_path / "r")},
        )  # fmt: skip
        try:
            while "QA LoRA is at" not in log.read_text():
                assert app.poll() is None, log.read_text()
                time.sleep(0.1)
            assert listening(app.pid) == {"127.0.0.1"}
            with socket.create_connection(("127.0.0.1", port)) as page:
                page.sendall(
                    b"GET /config HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
                )
                assert b" 421 " in page.makefile("rb").readline()
        finally:
            app.kill()
            app.wait()


def test_nothing_is_started_by_reading_a_run(tmp_path: Path) -> None:
    """A folder from elsewhere may name any process; only its birth makes it this run's."""
    run = made_run(tmp_path, "one")
    for value in (
        {"pid": os.getpid(), "created": 0},
        {"pid": -1},
        {"pid": "x"},
        [],
        {"pid": 2**70},
    ):
        (run.path / processes.PROCESS).write_text(json.dumps(value))
        assert not run.alive()
        processes.end(run.path)
