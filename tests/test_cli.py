"""Every command as a person runs it: a process, its output, its exit code.

Most are forks, which have loaded everything; training and a refusal are new interpreters.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from qa_lora import processes, runs, terminal
from qa_lora.cli import GENERATION, build_parser, main
from qa_lora.config import TrainConfig
from tests import forked
from tests.forked import qa_lora_command as qa_lora

METRICS = {"rouge1", "rouge2", "rougeL", "rougeLsum", "rougeSU4", "exact_match", "f1"}


def new_interpreter(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "qa_lora", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    values: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return values


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a file of another's column names, and a run trained on it."""
    folder = tmp_path_factory.mktemp("cli")
    rows = [f'"What, colour is thing {i}?",{"red blue green".split()[i % 3]}' for i in range(40)]
    (folder / "mine.csv").write_text("\n".join(["Prompt,Completion", *rows]) + "\n")
    done = new_interpreter(
        "train", "--model", str(tiny_model), "--data", "mine.csv", "--runs-dir", "r",
        "--name", "mine", "--max-steps", "4", "--batch-size", "4", "--learning-rate", "0.01",
        "--max-new-tokens", "6", "--seed", "3", "--json", cwd=folder,
    )  # fmt: skip
    values = result(done)
    assert {"run", "steps", "train_loss", "validation_loss", "seconds", "tokens_per_second"} <= set(
        values
    )
    assert values["steps"] == 4 and values["rows"] == 4
    return folder, values["run"]


def test_evaluate_gives_every_number_of_the_contract(trained: tuple[Path, str]) -> None:
    folder, run = trained
    values = result(qa_lora("evaluate", "--run", run, "--runs-dir", "r", "--json", cwd=folder))
    assert values["rows"] == 4
    for side in ("base", "tuned"):
        assert set(values[side]) >= METRICS
        assert all(0 <= value <= 1 for value in values[side].values())
    for metric in METRICS:
        found = values["difference"][metric]
        assert found["low"] <= found["mean"] <= found["high"]
        assert found["mean"] == pytest.approx(values["tuned"][metric] - values["base"][metric])
        assert 0 < found["p_value"] <= 1


def test_evaluate_scores_a_file_by_two_adapters_and_writes_markdown(
    trained: tuple[Path, str],
) -> None:
    folder, run = trained
    (folder / "own.csv").write_text("question,answer\nWhat is new?,This.\nAnd that?,That.\n")
    done = qa_lora(
        "evaluate", "--run", f"r/{run}", "--adapter", f"r/{run}/adapter", "--file", "own.csv",
        "--seed", "1", "--max-new-tokens", "3", "--remove-stopwords", "--markdown", "own.md",
        "--json", cwd=folder,
    )  # fmt: skip
    values = result(done)
    assert values["rows"] == 2 and values["complete"] and values["split"] == "file"
    assert values["systems"] == ["base", "tuned", run]
    assert values["scores"][run] == values["tuned"]
    assert values["settings"]["max_new_tokens"] == 3
    text = (folder / "own.md").read_text("utf-8")
    assert "| metric | base | tuned |" in text and values["test_fingerprint"] in text


def test_evaluate_shows_scores_and_what_stands_beside_them(trained: tuple[Path, str]) -> None:
    folder, run = trained
    shown = qa_lora("evaluate", "--run", f"r/{run}", "--limit", "2", cwd=folder).stdout
    words = ("ROUGE-L", "chrF", "p (all)", "perplexity", "answers cut", "2 questions")
    for each in (*words, "No clear difference."):
        assert each in shown


def test_evaluate_takes_a_split_and_a_limit(trained: tuple[Path, str]) -> None:
    folder, run = trained
    done = qa_lora(
        "evaluate", "--run", f"r/{run}", "--split", "train", "--limit", "3", "--json", cwd=folder
    )
    assert result(done)["rows"] == 3


def test_ask_answers_twice(trained: tuple[Path, str]) -> None:
    folder, run = trained
    arguments = ("ask", "What colour is thing 1?", "--run", run, "--runs-dir", "r")
    assert set(result(qa_lora(*arguments, "--json", cwd=folder))) == {"base", "tuned"}
    shown = qa_lora(*arguments, "--context", "Thing 1 is red.", cwd=folder)
    assert shown.returncode == 0 and "base" in shown.stdout and "tuned" in shown.stdout


def test_ask_takes_any_adapter_folder(trained: tuple[Path, str]) -> None:
    folder, run = trained
    adapter = str(folder / "r" / run / "adapter")
    assert "tuned" in result(qa_lora("ask", "Why?", "--run", adapter, "--json", cwd=folder))


def test_ask_several_adapters_with_every_setting(
    trained: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, run = trained
    adapter = folder / "r" / run / "adapter"
    idle = tmp_path / "idle"
    shutil.copytree(adapter, idle)
    weights = load_file(idle / "adapter_model.safetensors")
    save_file({name: 0 * w for name, w in weights.items()}, idle / "adapter_model.safetensors")
    (idle / "SHA256SUMS").unlink()
    words = ["ask", "What colour is thing 1?", "--run", str(adapter), "--run", str(idle), "--json"]
    assert main(words) == 0
    shown = capsys.readouterr()
    values = json.loads(shown.out.splitlines()[-1])
    assert list(values["answers"]) == ["base", "tuned", "idle"]
    assert values["answers"]["base"] == values["base"] == values["answers"]["idle"]
    assert values["answers"]["tuned"] == values["tuned"]
    assert "idle: The adapter does nothing here" in shown.err and "tuned:" not in shown.err
    drawn = ["--sample", "--temperature", "3", "--top-p", "0.99", "--top-k", "50", "--seed", "7"]
    more = ["--max-new-tokens", "9", "--min-new-tokens", "9", "--repetition-penalty", "1.3"]
    answers = []
    for _ in range(2):
        assert main([*words, *drawn, *more]) == 0
        answers.append(capsys.readouterr().out.splitlines()[-1])
    assert answers[0] == answers[1] and json.loads(answers[0])["base"] != values["base"]
    assert main([*words[:-1], "--num-beams", "2"]) == 0
    assert "idle" in capsys.readouterr().out


def test_an_answer_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show_answers({"base": "a\x1b[2Jb\u202ec\x9b", "tuned": "d\ne"})
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\u202e" not in shown and "\x9b" not in shown
    assert "d" in shown and "e" in shown


def test_runs_lists_it(trained: tuple[Path, str]) -> None:
    folder, run = trained
    (row,) = result(qa_lora("runs", "--runs-dir", "r", "--json", cwd=folder))["runs"]
    assert row["run"] == run and row["status"] == "finished" and row["step"] == 4
    assert run in qa_lora("runs", "--runs-dir", "r", cwd=folder).stdout


def test_resume_of_a_finished_run_is_refused(trained: tuple[Path, str]) -> None:
    folder, run = trained
    done = qa_lora("resume", run, "--runs-dir", "r", cwd=folder)
    assert done.returncode == 2 and "nothing to resume" in done.stderr


def test_stop_and_resume_from_other_processes(
    tmp_path: Path, tiny_model: Path, qa_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "spawn", forked.spawn)
    config = TrainConfig.build(
        model=str(tiny_model),
        data=str(qa_csv),
        max_steps=200,
        checkpoint_every=20,
        evaluate_every=200,
        probe_rows=0,
        score_rows=2,
        max_new_tokens=4,
        precision="fp32",
    )
    run = runs.start(config, tmp_path / "r")
    deadline = time.monotonic() + 240
    while not (run.status() == "running" and run.checkpoint.exists()):
        assert time.monotonic() < deadline and run.alive(), (run.path / "worker.log").read_text()
        time.sleep(0.01)
    assert qa_lora("stop", run.id, "--runs-dir", "r", cwd=tmp_path).returncode == 0
    while run.alive():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert run.status() == "stopped"
    values = result(qa_lora("resume", run.id, "--runs-dir", "r", "--json", cwd=tmp_path))
    assert values["run"] == run.id and values["steps"] == 200 and values["reason"] == "completed"


def test_settings_file_and_options_that_override_it(
    tmp_path: Path, tiny_model: Path, qa_csv: Path
) -> None:
    (tmp_path / "f.yaml").write_text(
        f"model: {tiny_model}\ndata: {qa_csv}\nmax_steps: 9\nscore_rows: 0\nprobe_rows: 0\n"
    )
    done = qa_lora(
        "train", "--config", "f.yaml", "--max-steps", "2", "--runs-dir", "r", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "Completed after 2 steps" in done.stdout
    (run,) = runs.list_runs(tmp_path / "r")
    assert run.config().max_steps == 2 and run.config().probe_rows == 0


def test_check_data_reports(trained: tuple[Path, str], tiny_model: Path) -> None:
    folder, _ = trained
    values = result(
        qa_lora("check-data", "mine.csv", "--model", str(tiny_model), "--json", cwd=folder)
    )
    assert values["columns"]["question"] == "Prompt" and values["rows_used"] == 40
    assert "40" in qa_lora("check-data", "mine.csv", cwd=folder).stdout


BAD = {
    "a learning rate of 0": (["--learning-rate", "0"], "learning_rate"),
    "a learning rate that is no number": (["--learning-rate", "nan"], "learning_rate"),
    "a word for a number": (["--max-steps", "many"], "max_steps"),
    "a folder that is no model": (["--model", "."], "no config.json"),
    "a Hub id without network": (["--model", "someone/some-model"], "Hub"),
    "a missing file": (["--data", "missing.csv"], "missing.csv"),
    "unknown columns": (["--data", "odd.csv"], "--question-column"),
    "a binary file": (["--data", "binary.csv"], "binary.csv"),
    "a LoRA target that matches nothing": (["--target-modules", "query"], "query"),
    "an unwritable runs folder": (["--runs-dir", "good.csv/runs"], "runs folder"),
    "an unknown option": (["--learning-speed", "1"], "--learning-speed"),
    "a settings file that is a list": (["--config", "list.yaml"], "list.yaml"),
}


@pytest.mark.parametrize(("arguments", "word"), BAD.values(), ids=list(BAD))
def test_bad_input_is_one_sentence_and_exit_code_2(
    tmp_path: Path,
    tiny_model: Path,
    qa_csv: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    word: str,
) -> None:
    (tmp_path / "good.csv").write_bytes(qa_csv.read_bytes())
    (tmp_path / "odd.csv").write_text("colour,size\nred,1\nblue,2\ngreen,3\n")
    (tmp_path / "binary.csv").write_bytes(b"PK\x03\x04\x00\x00\xff\xfe" * 20)
    (tmp_path / "list.yaml").write_text("- a\n- b\n")
    monkeypatch.chdir(tmp_path)
    defaults = ["--model", str(tiny_model), "--data", "good.csv", "--max-steps", "1"]
    try:
        code = main(["train", *defaults, *arguments])
    except SystemExit as error:  # argparse
        code = int(str(error.code))
    shown = capsys.readouterr().err.strip()
    assert code == 2
    assert word in shown and "Traceback" not in shown
    assert len(shown.splitlines()) == 1 and shown.endswith(".")


@pytest.mark.parametrize(
    "arguments",
    [
        ["ask", "   ", "--run", "RUN"],
        ["ask", "Why?", "--run", "no-such-run"],
        ["ask", "Why?", "--run", "RUN", "--run", "no-such-run"],
        ["ask", "Why?", "--run", "RUN", "--top-p", "2", "--sample"],
        ["ask", "Why?", "--run", "RUN", "--seed", "2"],
        ["ask", "Why?", "--run", "RUN", "--min-new-tokens", "4", "--max-new-tokens", "3"],
        ["ask", "Why?", "--run", "RUN", "--num-beams", "many"],
        ["evaluate", "--run", "RUN", "--limit", "0"],
        ["evaluate", "--run", "no-such-run"],
        ["stop", "no-such-run"],
        ["resume", "no-such-run"],
        ["check-data", "missing.csv"],
        ["train", "--preset", "Unknown"],
        ["dance"],
        [],
    ],
    ids=" ".join,
)
def test_every_command_refuses_in_one_sentence(
    trained: tuple[Path, str], capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    folder, run = trained
    words = [str(folder / "r" / run) if word == "RUN" else word for word in arguments]
    try:
        code = main(words)
    except SystemExit as error:
        code = int(str(error.code))
    shown = capsys.readouterr().err.strip()
    assert code == 2 and len(shown.splitlines()) == 1 and shown.endswith("."), shown


def test_a_refused_question_is_no_traceback_in_a_process(trained: tuple[Path, str]) -> None:
    folder, run = trained
    done = new_interpreter("ask", "", "--run", run, "--runs-dir", "r", cwd=folder)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "question" in done.stderr


def test_every_way_to_generate_is_an_option_of_ask() -> None:
    from qa_lora.answering import GenerationSettings

    known = {field.name for field in fields(GenerationSettings)}
    assert known == {*GENERATION, "do_sample"}


def test_every_knob_is_an_option_of_train(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    plain = text.replace(" ", "").replace("-", "")
    for name, field in TrainConfig.model_fields.items():
        assert "--" + name.replace("_", "-") in text
        # argparse breaks lines inside hyphenated words, so words are compared without them.
        assert str(field.description).replace(" ", "").replace("-", "") in plain


@pytest.mark.parametrize(
    "command", ["demo", "train", "resume", "stop", "runs", "ask", "evaluate", "check-data"]
)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args([command, "--help"])
    assert ended.value.code == 0
    assert "--json" in (text := capsys.readouterr().out) and "--runs-dir" in text


def test_progress_is_plain_lines_when_piped(trained: tuple[Path, str]) -> None:
    folder, run = trained
    done = qa_lora("evaluate", "--run", run, "--runs-dir", "r", cwd=folder)
    assert "\x1b" not in done.stderr + done.stdout and "\r" not in done.stderr
    assert "Answering 4/4" in done.stderr
    assert "ROUGE-L" in done.stdout
