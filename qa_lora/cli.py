"""The command line: parse, call the library, show what it tells. `--help` loads no torch."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from qa_lora import (
    adapter_commands,
    deploy_command,
    distributed,
    evaluate_command,
    publish_command,
    runs,
    runs_commands,
    terminal,
)
from qa_lora.config import DATA_SETTINGS, PRESETS, SOURCES, TrainConfig, read_settings
from qa_lora.errors import ConfigError, QALoRAError
from qa_lora.events import Finished, Scored
from qa_lora.hub_downloads import watched
from qa_lora.secrets import print_redacted

__all__ = ["build_parser", "main"]

BAD_INPUT = 2
KNOB = "knob:"
"""Prefix of the parsed values that are settings of a training."""

Result = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Words after the program's name; those of the process if None.

    Returns:
        The exit code: 0, or 2 after one sentence on stderr about what was wrong.
    """
    # Libraries' own chatter would drown the one sentence that matters.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", module=r"(transformers|peft|accelerate|torch)\b")
    parsed = build_parser().parse_args(arguments)
    sys.excepthook = print_redacted
    speaks = distributed.is_first()
    if not speaks:
        terminal.silence()
    command: Callable[[argparse.Namespace], Result] = parsed.call
    downloads = terminal.Downloads(quiet=getattr(parsed, "json", False))
    try:
        with watched(downloads.show):
            result = command(parsed)
    except QALoRAError as error:
        if speaks:
            sys.stderr.write(f"qa-lora: {terminal.plain(str(error))}\n")
        return BAD_INPUT
    except BrokenPipeError:
        terminal.hang_up()
        return 0
    except KeyboardInterrupt:
        if speaks:
            sys.stderr.write("qa-lora: interrupted.\n")
        return 130
    finally:
        downloads.close()
    if parsed.json and speaks:
        print(json.dumps(result, ensure_ascii=False))
    distributed.leave()
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The commands and their options; those of `train` are made from the settings."""
    parser = _Parser(
        prog="qa-lora",
        description="Teach a question-answering model a new way to answer, and show that it paid.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    demo = _add(commands, "demo", _demo, "train, compare and score with the bundled model and data")
    _add_knobs(demo, only=["max_steps", "score_rows", "seed"])

    train = _add(commands, "train", _train, "train an adapter, with a progress bar")
    train.add_argument("--config", metavar="F.yaml", help="settings; options override them")
    train.add_argument("--preset", choices=list(PRESETS), help="settings to start from")
    train.add_argument(
        "--dry-run",
        action="store_true",
        help="say what it needs and whether it fits; train nothing",
    )
    _add_knobs(train)

    resume = _add(commands, "resume", _resume, "go on with a stopped or interrupted run")
    resume.add_argument("run", metavar="RUN", help="a run's id or folder")
    for command in (train, resume):
        command.add_argument(
            "--queue", action="store_true", help="wait until no other run in the folder works"
        )

    stop = _add(commands, "stop", _stop, "ask a training to save and stop, or to wait no longer")
    stop.add_argument("run", metavar="RUN", help="a run's id or folder")

    runs_commands.add_commands(partial(_add, commands))

    ask = _add(commands, "ask", _ask, "answer a question with base and tuned model")
    ask.add_argument("question", metavar="QUESTION")
    ask.add_argument(
        "--run",
        required=True,
        action="append",
        metavar="RUN",
        help="a run, an imported adapter, an adapter's folder or Hub id; again for further ones "
        "of the same base",
    )
    ask.add_argument("--context", default="", metavar="C", help="a passage to read")
    _add_generation(ask)

    evaluate = _add(
        commands, "evaluate", evaluate_command.run, "score base and tuned on held-out questions"
    )
    evaluate_command.add_arguments(evaluate)

    publish = _add(
        commands, "publish", publish_command.run, "upload an adapter and its card to the Hub"
    )
    publish_command.add_arguments(publish)

    fetch = _add(commands, "fetch-backup", _fetch_backup, "bring a run back from its backup")
    fetch.add_argument("place", metavar="PLACE", help="the folder or Hub repository of the backup")
    fetch.add_argument("--run", default="", metavar="ID", help="which run (default: the newest)")
    adapter_commands.add_commands(lambda name, call, text: _add(commands, name, call, text))

    check = _add(commands, "check-data", _check_data, "say what is in a file and what is wrong")
    check.add_argument("source", metavar="D", help="atlas, a file or a Hub id")
    _add_knobs(check, only=[name for name in DATA_SETTINGS if name != "data"])

    deploy = _add(
        commands, "deploy", deploy_command.run, "make or update a Hugging Face Space of the app"
    )
    deploy_command.add_arguments(deploy)
    return parser


class _Parser(argparse.ArgumentParser):
    """One sentence for bad usage, instead of the whole usage text."""

    def error(self, message: str) -> NoReturn:
        message = message[:1].upper() + message[1:]
        self.exit(BAD_INPUT, f"{self.prog}: {message}. See {self.prog} --help.\n")


def _add(
    commands: Any, name: str, call: Callable[[argparse.Namespace], Result], help: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help, description=help[:1].upper() + help[1:] + "."
    )
    parser.set_defaults(call=call)
    parser.add_argument(
        "--runs-dir",
        type=Path,
        default=runs.default_runs_dir(),
        metavar="R",
        help="folder of the runs (default: QA_LORA_RUNS_DIR, or runs)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object as the last line"
    )
    return parser


def _add_knobs(parser: argparse.ArgumentParser, only: Sequence[str] = ()) -> None:
    """A flag for every setting; values stay text, for the settings check them themselves."""
    groups: dict[str, Any] = {}
    for name, field in TrainConfig.model_fields.items():
        if only and name not in only:
            continue
        extra = field.json_schema_extra
        assert isinstance(extra, dict)
        title = str(extra["group"])
        group = groups.setdefault(title, parser.add_argument_group(title))
        flag = "--" + name.replace("_", "-")
        default = "" if field.default in (None, "", ()) else f" (default: {field.default})"
        options: dict[str, Any] = {
            "dest": KNOB + name,
            "default": argparse.SUPPRESS,
            "help": f"{field.description}{default}".replace("%", "%%"),
        }
        if isinstance(field.default, bool):
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **options)
        elif isinstance(field.default, tuple) or name in SOURCES:
            group.add_argument(flag, metavar="X", action="append", **options)
        else:
            group.add_argument(flag, metavar="X", **options)


GENERATION = {
    "max_new_tokens": (int, "longest answer (default: that of the run)"),
    "min_new_tokens": (int, "shortest answer (default: 0)"),
    "num_beams": (int, "beam search with so many beams (default: 1, none)"),
    "repetition_penalty": (
        float,
        "0.001 to 100, above 1 against tokens said already (default: 1, none)",
    ),
    "temperature": (float, "with --sample: 0.001 to 100, higher is more daring (default: 1)"),
    "top_p": (float, "with --sample: from the likeliest with this probability (default: 1)"),
    "top_k": (int, "with --sample: from so many likeliest tokens (default: 0, all)"),
    "seed": (int, "with --sample: another seed, another answer (default: 0)"),
}
"""The fields of GenerationSettings, which is not imported here, for it loads torch."""

DRAWN = ("temperature", "top_p", "top_k", "seed")


def _add_generation(parser: argparse.ArgumentParser) -> None:
    """A flag for every way to generate; what is not given is the run's own."""
    group = parser.add_argument_group("Generation")
    group.add_argument("--sample", action="store_true", help="draw tokens, not the likeliest ones")
    for name, (kind, text) in GENERATION.items():
        flag = "--" + name.replace("_", "-")
        group.add_argument(flag, type=kind, default=argparse.SUPPRESS, metavar="X", help=text)


def _generation(parsed: argparse.Namespace) -> Result:
    values = {name: value for name, value in vars(parsed).items() if name in GENERATION}
    idle = [name for name in DRAWN if name in values and not parsed.sample]
    if idle:
        flag = "--" + idle[0].replace("_", "-")
        raise ConfigError(
            f"{flag} does nothing without --sample.", "Add --sample, or leave it out."
        )
    return {**values, "do_sample": parsed.sample}


def _knobs(parsed: argparse.Namespace) -> Result:
    values = vars(parsed).items()
    return {name.removeprefix(KNOB): value for name, value in values if name.startswith(KNOB)}


def _demo(parsed: argparse.Namespace) -> Result:
    config = TrainConfig.build("Quick demo", **{"name": "demo", **_knobs(parsed)})
    result = _train_run(_create(config, parsed), parsed)
    return {"train_seconds": result["train_seconds"], **result}


def _train(parsed: argparse.Namespace) -> Result:
    settings = read_settings(parsed.config) if parsed.config else {}
    config = TrainConfig.build(parsed.preset, **{**settings, **_knobs(parsed)})
    if parsed.dry_run:
        return _estimate(config, parsed)
    return _train_run(_create(config, parsed), parsed)


def _estimate(config: TrainConfig, parsed: argparse.Namespace) -> Result:
    from qa_lora.estimate import estimate_config

    found = estimate_config(config, parsed.runs_dir)
    terminal.show_estimate(found, quiet=parsed.json)
    return found.to_dict()


def _create(config: TrainConfig, parsed: argparse.Namespace) -> runs.Run:
    return distributed.from_first(lambda: runs.create(config, parsed.runs_dir))


def _resume(parsed: argparse.Namespace) -> Result:
    run = runs.find(parsed.run, parsed.runs_dir)
    distributed.from_first(lambda: runs.check_can_resume(run))
    return _train_run(run, parsed, resume=True)


def _train_run(run: runs.Run, parsed: argparse.Namespace, *, resume: bool = False) -> Result:
    import time

    from qa_lora.worker import execute

    started = time.monotonic()
    finished: Finished | None = None
    scored: Scored | None = None
    if getattr(parsed, "queue", False) and not distributed.from_first(
        lambda: _wait_for_turn(run, quiet=parsed.json)
    ):
        return {"run": run.id, "steps": 0, "reason": "stopped", "seconds": 0.0}
    with terminal.Training(run, quiet=parsed.json) as shown:
        for event in execute(run, resume=resume):
            try:
                shown.show(event)
            except OSError:  # the terminal is gone; the training goes on
                terminal.hang_up()
            if isinstance(event, Finished):
                finished = event
            elif isinstance(event, Scored):
                scored = event
    assert finished is not None
    result: Result = {
        "run": run.id,
        "steps": finished.step,
        "reason": finished.reason,
        "train_loss": finished.train_loss,
        "validation_loss": finished.validation_loss,
        "train_seconds": finished.seconds,
        "seconds": time.monotonic() - started,
        "tokens_per_second": finished.tokens_per_second,
    }
    if scored is not None:
        result |= {
            "rows": scored.rows,
            "base": scored.base,
            "tuned": scored.tuned,
            "difference": scored.difference,
        }
    return result


def _wait_for_turn(run: runs.Run, *, quiet: bool) -> bool:
    from qa_lora.worker import wait_for_turn

    runs.queue_up(run)
    came = wait_for_turn(run, lambda place: terminal.show_place(run, place, quiet=quiet))
    if not came:
        terminal.say(f"The run {run.id} waits no longer; resume starts it.", quiet=quiet)
    return came


def _stop(parsed: argparse.Namespace) -> Result:
    run = runs.find(parsed.run, parsed.runs_dir)
    waits = run.status() == "waiting"
    runs.stop(run)
    what = "wait no longer" if waits else "finish its step, save and stop"
    terminal.say(f"Asked {run.id} to {what}.", quiet=parsed.json)
    return {"run": run.id, "status": run.status()}


def _ask(parsed: argparse.Namespace) -> Result:
    from dataclasses import replace

    from qa_lora.answering import GenerationSettings, load

    wanted = _generation(parsed)
    # What is out of bounds is said before a model is loaded.
    GenerationSettings(**{"max_new_tokens": 8192, **wanted})
    first, *others = parsed.run
    answerer = load(first, runs_dir=parsed.runs_dir)
    settings = replace(answerer.settings, **wanted)
    for other in others:
        answerer.add(other, runs_dir=parsed.runs_dir)
    *_, last = answerer.answer_together(parsed.question, parsed.context, settings=settings)
    texts = {name: answer.text for name, answer in last.answers.items()}
    terminal.show_answers(texts, quiet=parsed.json)
    for name, text in texts.items():
        if name != "base" and text == texts["base"]:
            _warn_of_nil(answerer, name, parsed, text)
    result: Result = {"base": texts["base"], "tuned": texts["tuned"]}
    return {**result, "answers": texts} if others else result


def _warn_of_nil(answerer: Any, name: str, parsed: argparse.Namespace, text: str) -> None:
    """Say on stderr if an adapter that answers as its base does nothing at all."""
    from qa_lora.answering.effect import measure_effect
    from qa_lora.data.example import QAExample

    asked = QAExample("", parsed.question, "", parsed.context)
    effect = measure_effect(answerer, [asked], system=name, answers=[text])
    if not effect.acts:
        sys.stderr.write(f"qa-lora: {name}: {effect.sentence()}\n")


def _fetch_backup(parsed: argparse.Namespace) -> Result:
    from qa_lora.backup.fetch import fetch, missing_here

    run = fetch(parsed.place, parsed.runs_dir, parsed.run)
    terminal.say(f"{run.id} is in {run.path} ({run.status()}).", quiet=parsed.json)
    missing = missing_here(run)
    for name in missing:
        terminal.say(
            f"Its settings name {name}, which is not on this machine: to go on with it, put that "
            "there, or name its place here in config.yaml.",
            quiet=parsed.json,
        )
    return {"run": run.id, "status": run.status(), "missing": missing}


def _check_data(parsed: argparse.Namespace) -> Result:
    from qa_lora.data.checks import check_config

    config = TrainConfig.build(data=parsed.source, **_knobs(parsed))
    # Before the data is read: a model that is not there is said at once.
    from qa_lora.models import load_tokenizer

    tokenizer = load_tokenizer(config.model)
    report = check_config(config, tokenizer=tokenizer, runs_dir=parsed.runs_dir)
    terminal.show_report(report, quiet=parsed.json)
    result: Result = report.to_dict()
    return result
