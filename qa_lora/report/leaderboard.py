"""Runs side by side that were scored on the very same questions.

Only the small JSON files of evaluations are read, each once as long as it stays as it is, so that
hundreds of runs are no matter.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from qa_lora.adapter_settings import ADAPTER_WEIGHTS as WEIGHTS
from qa_lora.checksums import CHECKSUMS, read_checksums
from qa_lora.config import TrainConfig
from qa_lora.errors import QALoRAError
from qa_lora.fetching import base_commit
from qa_lora.report.files import list_reports, read_report
from qa_lora.report.found import BASE, TUNED, Report
from qa_lora.runs import Run, list_runs

__all__ = ["Board", "Leaderboard", "Standing"]

Value = TypeVar("Value")

NO_MATTER = {
    "name", "score_rows", "probe_rows", "probe_questions", "checkpoint_every",
    "checkpoint_seconds", "report_to",
}  # fmt: skip
"""Settings that say nothing about how good an adapter becomes."""
ANSWER_SETTINGS = (
    "precision", "do_sample", "temperature", "top_p", "top_k", "seed", "num_beams",
    "repetition_penalty", "min_new_tokens", "max_new_tokens", "remove_stopwords",
)  # fmt: skip
"""Of an evaluation's own settings, those that change scores."""


@dataclass(frozen=True)
class Standing:
    """The newest complete evaluation of a run's adapter on some questions."""

    run: Run
    number: int
    """Of the evaluation."""
    holder: Run
    """The run in whose folder the evaluation lies; another one where it was scored beside that."""
    scores: dict[str, float]
    base: dict[str, float]
    """Of the base in the same evaluation."""
    differences: dict[str, dict[str, Any]]
    """Adapter minus base by metric: mean, low, high and more."""
    seconds: float
    settings: dict[str, Any]
    """How the answers were made."""
    newer_adapter: bool
    """Whether the run was trained on since: the scores are of an older adapter."""


@dataclass(frozen=True)
class Board:
    """All runs that were scored on the same questions with the same references."""

    fingerprint: str
    rows: int
    split: str
    data: str
    standings: tuple[Standing, ...]
    """The newest run first."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """What at least one of them was scored by."""
        return tuple(dict.fromkeys(name for each in self.standings for name in each.scores))

    def ranked(self, metric: str) -> list[Standing]:
        """The best first; those without this metric last."""
        return sorted(
            self.standings,
            key=lambda each: -each.scores.get(metric, float("-inf")),
        )


class Leaderboard:
    """Finds the boards of a folder of runs; safe to use from several threads.

    Args:
        runs_dir: The folder.
    """

    def __init__(self, runs_dir: Path) -> None:
        self.runs_dir = runs_dir
        self._lock = threading.Lock()
        self._reports = _Kept[Report]()
        self._configs = _Kept[TrainConfig]()
        self._sums = _Kept[dict[str, str]]()

    def boards(self, only: Iterable[str] | None = None) -> list[Board]:
        """One for each set of questions that a complete evaluation was made of.

        Args:
            only: The ids of the runs that may stand on it; all if None.

        Returns:
            Those with the most runs first, of equally many the one with the newest run. Runs and
            evaluations that are damaged are left out.
        """
        with self._lock:
            runs = {run.id: run for run in list_runs(self.runs_dir)}
            shown = runs.keys() if only is None else runs.keys() & set(only)
            found: dict[str, dict[str, tuple[int, Standing]]] = {}
            first: dict[str, Report] = {}
            for holder in runs.values():
                for number in list_reports(holder.evaluations_dir):
                    report, when = self._report(holder, number)
                    if report is None or not report.complete or holder.id not in shown:
                        continue
                    first.setdefault(report.test_fingerprint, report)
                    board = found.setdefault(report.test_fingerprint, {})
                    for run, standing in self._standings(report, holder, number, when, runs):
                        if run in shown and (run not in board or board[run][0] < when):
                            board[run] = (when, standing)
            self._reports.sweep()
            self._sums.sweep()
        boards = [
            Board(
                fingerprint,
                first[fingerprint].rows,
                first[fingerprint].split,
                str(first[fingerprint].settings.get("data", "")),
                tuple(found[fingerprint][run][1] for run in runs if run in found[fingerprint]),
            )
            for fingerprint in found
        ]
        return sorted(boards, key=lambda b: (len(b.standings), b.standings[0].run.id), reverse=True)

    def differing(self, standings: Iterable[Standing]) -> dict[str, dict[str, Any]]:
        """The settings that are not the same for all, by name, for each run's id its value.

        Those of training by their own names, those of the answers as "answers: ..."; a run whose
        settings cannot be read has none.
        """
        every: dict[str, dict[str, Any]] = {}
        with self._lock:
            for each in standings:
                values = {f"answers: {n}": each.settings.get(n) for n in ANSWER_SETTINGS}
                config = self._config(each.run)
                if config is not None:
                    values |= config.model_dump(exclude=NO_MATTER)
                    values["commit of the base"] = base_commit(each.run.path)
                every[each.run.id] = values
        names = dict.fromkeys(name for values in every.values() for name in values)
        table = {
            name: {run: values[name] for run, values in every.items() if name in values}
            for name in names
        }
        return {
            name: values
            for name, values in table.items()
            if len({repr(value) for value in values.values()}) > 1
        }

    def _report(self, holder: Run, number: int) -> tuple[Report | None, int]:
        path = holder.evaluations_dir / f"{number}.json"
        return self._reports.get(
            path, lambda: read_report(holder.evaluations_dir, number, examples=False)
        )

    def _standings(
        self, report: Report, holder: Run, number: int, when: int, runs: dict[str, Run]
    ) -> Iterable[tuple[str, Standing]]:
        """The run's own adapter, and those of other runs that were scored with it."""
        for system in report.systems:
            run = holder if system == TUNED else runs.get(system)
            if system == BASE or run is None:
                continue
            yield (
                run.id,
                Standing(
                    run,
                    number,
                    holder,
                    report.scores[system],
                    report.base,
                    report.differences.get(system, {}),
                    report.seconds,
                    report.settings,
                    self._is_newer(run, report, system, when),
                ),
            )

    def _is_newer(self, run: Run, report: Report, system: str, when: int) -> bool:
        """Whether a run's adapter has changed since it was scored."""
        known, _ = self._sums.get(run.adapter / CHECKSUMS, lambda: read_checksums(run.adapter))
        same = report.is_of(system, known[WEIGHTS]) if known and WEIGHTS in known else None
        # A copy of a run writes its files in any order, so times are for older reports alone.
        if same is not None:
            return not same
        try:
            return (run.adapter / "adapter_config.json").stat().st_mtime_ns > when
        except OSError:
            return False

    def _config(self, run: Run) -> TrainConfig | None:
        return self._configs.get(run.path / "config.yaml", run.config)[0]


class _Kept(Generic[Value]):
    """What was read of files, as long as they stay as they are."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int], Value | None]] = {}
        self._asked: set[Path] = set()

    def get(self, path: Path, read: Callable[[], Value]) -> tuple[Value | None, int]:
        """What `read` gives of the file, None if it is damaged; and when the file was changed."""
        try:
            stat = path.stat()
        except OSError:
            return None, 0
        state = (stat.st_mtime_ns, stat.st_size)
        self._asked.add(path)
        if path not in self._known or self._known[path][0] != state:
            try:
                self._known[path] = state, read()
            except (QALoRAError, OSError, ValueError):
                self._known[path] = state, None
        return self._known[path][1], state[0]

    def sweep(self) -> None:
        """Forget the files that were not asked for since the last time: they are gone."""
        self._known = {path: self._known[path] for path in self._asked}
        self._asked.clear()
