"""``qa-lora evaluate``: its options, and what it does."""

from __future__ import annotations

import argparse
import dataclasses
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from qa_lora import distributed, terminal
from qa_lora.errors import ConfigError, RunError

__all__ = ["add_arguments", "run"]

RUN = "a run, an imported adapter, an adapter's folder or its Hub id"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add("--run", required=True, metavar="RUN", help=RUN)
    add(
        "--adapter",
        metavar="RUN",
        action="append",
        default=[],
        help="score a further adapter of the same base, too; may be repeated",
    )
    add("--limit", type=int, metavar="N", help="score at most N questions")
    add("--split", default="test", choices=["test", "validation", "train"])
    add("--data", metavar="D", action="append", help="data to score on, if not the run's own")
    add(
        "--file",
        metavar="F",
        help="score all questions of a file, but for those the run was trained on",
    )
    add("--seed", type=int, default=0, metavar="S", help="of the draw of questions")
    add("--max-new-tokens", type=int, metavar="N", help="longest answer, in tokens")
    add("--num-beams", type=int, metavar="N", help="beams of the search; 1 is greedy")
    add(
        "--remove-stopwords",
        action="store_true",
        help="leave words such as the, of and is out of the ROUGE scores",
    )
    add("--markdown", metavar="F.md", help="also write the report there, for a model card")


def run(parsed: argparse.Namespace) -> dict[str, Any]:
    """Score, show, and return the numbers of the report.

    Ctrl-C ends it with a report of what is done; a second one does not wait for that.
    """
    if parsed.limit is not None and parsed.limit < 1:
        raise ConfigError("--limit must be at least 1.")
    from qa_lora.answering import load
    from qa_lora.evaluation import Progress, evaluate_stream

    given = {name: getattr(parsed, name) for name in ("max_new_tokens", "num_beams")}
    given = {name: value for name, value in given.items() if value is not None}
    answerer = distributed.together(lambda: load(parsed.run, runs_dir=parsed.runs_dir))
    report = None
    with _CtrlC() as pressed, terminal.Bar("Answering", quiet=parsed.json) as bar:
        for item in evaluate_stream(
            parsed.run,
            split=parsed.split,
            limit=parsed.limit,
            data="\n".join(parsed.data) if parsed.data else None,
            file=parsed.file,
            adapters=parsed.adapter,
            runs_dir=parsed.runs_dir,
            answerer=answerer,
            settings=dataclasses.replace(answerer.settings, **given),
            seed=parsed.seed,
            remove_stopwords=parsed.remove_stopwords,
            should_stop=lambda: pressed.once,
        ):
            if isinstance(item, Progress):
                bar.update(item.done, item.total)
            else:
                report = item
    if report is None:
        raise KeyboardInterrupt
    terminal.show_evaluation(report, quiet=parsed.json)
    if parsed.markdown and distributed.is_first():
        from qa_lora.report.markdown import to_markdown

        try:
            Path(parsed.markdown).write_text(to_markdown(report), "utf-8")
        except OSError as error:
            raise RunError(
                f"The report cannot be written to {parsed.markdown}: {error.strerror or error}."
            ) from None
    return report.to_dict()


class _CtrlC:
    """Notes the first Ctrl-C instead of ending, while the block lasts."""

    once = False

    def __enter__(self) -> _CtrlC:
        self._before: Any = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.once:
            raise KeyboardInterrupt
        self.once = True
