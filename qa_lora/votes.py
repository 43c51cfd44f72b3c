"""Votes of blind tests: one SQLite file in the runs folder, shared by all visitors and processes.

A vote is written in one transaction that waits for others, so nobody overwrites anybody, and a
process that dies leaves either the whole vote or none of it.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from qa_lora.errors import RunError, first_line
from qa_lora.formulas import neutralise

if TYPE_CHECKING:
    from qa_lora.scoring.statistics import WinRate

__all__ = [
    "BOTH_BAD",
    "FILE_NAME",
    "TIE",
    "PairTally",
    "Vote",
    "add_vote",
    "list_votes",
    "tally",
    "votes_csv",
    "votes_json",
]

FILE_NAME = "votes.sqlite"
TIE, BOTH_BAD = "tie", "both bad"
BUSY_SECONDS = 10.0
"""How long a vote waits while another one is being written."""
SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS votes (
    id INTEGER PRIMARY KEY,
    time TEXT NOT NULL,
    run TEXT NOT NULL,
    left_system TEXT NOT NULL,
    right_system TEXT NOT NULL,
    question TEXT NOT NULL,
    context TEXT NOT NULL,
    left_answer TEXT NOT NULL,
    right_answer TEXT NOT NULL,
    settings TEXT NOT NULL,
    vote TEXT NOT NULL,
    visitor TEXT NOT NULL,
    ballot TEXT UNIQUE
)
"""


@dataclass(frozen=True)
class Vote:
    """One judgement of two answers by someone who did not know whose they were.

    Raises:
        RunError: If `vote` is none of what can be voted for.
    """

    run: str
    """The id of the run in view, whose adapter is called "tuned"."""
    left: str
    """The system that answered as "Answer A": "base", "tuned" or another adapter's name."""
    right: str
    """The system that answered as "Answer B"."""
    question: str
    context: str
    left_answer: str
    right_answer: str
    vote: str
    """The name of the better system, "tie" or "both bad"."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """How the answers were generated."""
    visitor: str = ""
    """A random word that tells one browser from another; nothing about a person."""
    time: str = ""
    """ISO 8601 in UTC; set when it is stored."""
    ballot: str | None = None
    """A random word for the pair of answers; a second vote on one ballot is not counted."""

    def __post_init__(self) -> None:
        if self.left == self.right or {self.left, self.right} & {TIE, BOTH_BAD, ""}:
            raise RunError(
                f"A blind test needs two systems with names of their own "
                f"(it has {self.left!r} and {self.right!r})."
            )
        if self.vote not in (self.left, self.right, TIE, BOTH_BAD):
            raise RunError(
                f"A vote must be {self.left!r}, {self.right!r}, {TIE!r} or {BOTH_BAD!r} "
                f"(it is {self.vote!r})."
            )


@dataclass(frozen=True)
class PairTally:
    """How one system did against another in all votes on the two."""

    system: str
    against: str
    wins: int
    losses: int
    ties: int
    both_bad: int
    rate: WinRate
    """Share of wins of `system` with a 95 % interval, and the sign test's p-value."""

    @property
    def votes(self) -> int:
        """All votes on the two, undecided ones among them."""
        return self.wins + self.losses + self.ties + self.both_bad


def add_vote(runs_dir: str | Path, vote: Vote) -> bool:
    """Store a vote.

    Returns:
        False if its ballot has been cast already: a double click is one vote.

    Raises:
        RunError: If the file is damaged, cannot be written, or stays busy.
    """
    stamped = vote.time or datetime.now(timezone.utc).isoformat(timespec="seconds")
    texts = (
        stamped, vote.run, vote.left, vote.right, vote.question, vote.context, vote.left_answer,
        vote.right_answer, json.dumps(dict(vote.settings)), vote.vote, vote.visitor,
    )  # fmt: skip
    marks = ", ".join("?" * (len(texts) + 1))
    path = Path(runs_dir) / FILE_NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(path, error) from error
    with _opened(path, "rwc") as database:
        # Taking the lock first: two that read and then both want to write would refuse each other.
        database.execute("BEGIN IMMEDIATE")
        database.execute(_SCHEMA)
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        done = database.execute(
            "INSERT OR IGNORE INTO votes (time, run, left_system, right_system, question, context, "
            "left_answer, right_answer, settings, vote, visitor, ballot) "
            f"VALUES ({marks})",
            (*map(_storable, texts), vote.ballot),
        )
        database.execute("COMMIT")
        return done.rowcount == 1


def list_votes(runs_dir: str | Path, run: str | None = None) -> list[Vote]:
    """The votes on a run, oldest first; on all runs if None.

    Raises:
        RunError: If the file is damaged, cannot be read, or stays busy.
    """
    path = Path(runs_dir) / FILE_NAME
    if not path.exists():
        return []
    with _opened(path, "rw") as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'votes'").fetchone():
            return []
        found = database.execute(
            "SELECT run, left_system, right_system, question, context, left_answer, right_answer, "
            "vote, settings, visitor, time, ballot FROM votes WHERE ?1 IS NULL OR run = ?1 "
            "ORDER BY id",
            (run,),
        ).fetchall()
    names = (
        "run", "left", "right", "question", "context", "left_answer", "right_answer", "vote",
        "settings", "visitor", "time", "ballot",
    )  # fmt: skip
    votes = []
    for row in found:
        values = dict(zip(names, row, strict=True))
        try:
            votes.append(Vote(**{**values, "settings": json.loads(values["settings"])}))
        except ValueError as error:
            raise _unusable(path, error) from error
    return votes


def tally(votes: Iterable[Vote]) -> list[PairTally]:
    """Wins, losses and undecided votes of each pair of systems, the most voted pair first.

    A tie and "both bad" prefer nobody. Both are counted and shown, and both are left out of the
    share of wins and of the sign test, which asks one thing: of those who preferred an answer, did
    more prefer this system than a fair coin would give? Of a pair, "tuned" or another adapter is
    the one whose wins are counted, and "base" the one it is measured against.
    """
    from qa_lora.scoring.statistics import win_rate

    counts: dict[tuple[str, str], dict[str, int]] = {}
    for vote in votes:
        system, against = sorted((vote.left, vote.right), key=_rank)
        of_pair = counts.setdefault((system, against), {})
        of_pair[vote.vote] = of_pair.get(vote.vote, 0) + 1
    found = []
    for (system, against), of_pair in counts.items():
        wins, losses = of_pair.get(system, 0), of_pair.get(against, 0)
        ties, bad = of_pair.get(TIE, 0), of_pair.get(BOTH_BAD, 0)
        rate = win_rate(wins, losses, ties + bad)
        found.append(PairTally(system, against, wins, losses, ties, bad, rate))
    return sorted(found, key=lambda pair: -pair.votes)


def votes_csv(votes: Sequence[Vote]) -> str:
    """A row a vote, settings as JSON; no cell is run by a spreadsheet."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    names = [item.name for item in dataclasses.fields(Vote) if item.name != "ballot"]
    writer.writerow(names)
    for vote in votes:
        values = {**_plain(vote), "settings": json.dumps(dict(vote.settings))}
        writer.writerow([neutralise(str(values[name])) for name in names])
    return out.getvalue()


def votes_json(votes: Sequence[Vote]) -> str:
    """The votes, and what they add up to."""
    values = {
        "votes": [_plain(vote) for vote in votes],
        "tally": [dataclasses.asdict(pair) for pair in tally(votes)],
    }
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _plain(vote: Vote) -> dict[str, Any]:
    values = {item.name: getattr(vote, item.name) for item in dataclasses.fields(Vote)}
    del values["ballot"]
    return {**values, "settings": dict(vote.settings)}


def _rank(system: str) -> tuple[int, str]:
    return {"tuned": 0, "base": 2}.get(system, 1), system


def _storable(text: str) -> str:
    """Without halves of surrogate pairs, which a browser can send and UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


@contextmanager
def _opened(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    """The open file; whatever SQLite says of it becomes one sentence."""
    try:
        # The rollback journal, SQLite's default: unlike a write-ahead log it also holds where the
        # runs folder is mounted over a network.
        uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
        with closing(
            sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        ) as database:
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA_VERSION:
                raise RunError(
                    f"{path} was written by a newer version of QA LoRA.",
                    "Update QA LoRA, or move the file away to begin a new one.",
                )
            yield database
    except sqlite3.Error as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: Exception) -> RunError:
    said = first_line(error)
    if "locked" in said or "busy" in said:
        return RunError(f"The votes in {path} are in use by another process.", "Vote again.")
    if isinstance(error, sqlite3.OperationalError | OSError) and "malformed" not in said:
        return RunError(
            f"The votes in {path} cannot be read or written ({said}).",
            "Check that the disk has room and that the file and its folder may be written.",
        )
    return RunError(
        f"The votes in {path} are damaged ({said}).",
        "Move the file away to begin a new one, or put a copy of it back.",
    )
