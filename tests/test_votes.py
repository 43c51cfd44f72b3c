"""Votes survive restarts, damage gets a sentence, and nobody overwrites anybody."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from qa_lora.errors import RunError
from qa_lora.probe_questions import bundled_probe_questions, questions_from_lines
from qa_lora.votes import (
    BOTH_BAD,
    FILE_NAME,
    TIE,
    Vote,
    add_vote,
    list_votes,
    tally,
    votes_csv,
    votes_json,
)

WRITER = """
import sys
from qa_lora.votes import Vote, add_vote
folder, name = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
for i in range(25):
    assert add_vote(folder, Vote("r", "base", "tuned", f"{name}{i}", "", "a", "b", "tuned"))
"""


def vote(choice: str = "tuned", left: str = "base", right: str = "tuned", **values: object) -> Vote:
    texts = {"question": "Q?", "context": "", "left_answer": "a", "right_answer": "b"}
    return Vote(**{"run": "r", "left": left, "right": right, "vote": choice, **texts, **values})


def test_two_processes_write_at_once_and_every_vote_is_there_afterwards(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name in "xy"
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    found = [v.question for v in list_votes(tmp_path, "r")]
    assert sorted(found) == sorted(f"{name}{i}" for name in "xy" for i in range(25))
    for name in "xy":
        assert [q for q in found if q[0] == name] == [f"{name}{i}" for i in range(25)]


def test_a_vote_is_read_back_as_it_was_and_of_its_run_alone(tmp_path: Path) -> None:
    assert list_votes(tmp_path) == [] and not (tmp_path / FILE_NAME).exists()
    asked = {"question": "=1+1\n<b>\x00", "context": "c", "settings": {"seed": 3}, "visitor": "v"}
    before = vote(**asked, time="2026-01-02T03:04:05+00:00", ballot="one")
    assert add_vote(tmp_path, before)
    add_vote(tmp_path, vote(run="other"))
    assert list_votes(tmp_path, "r") == [before]
    assert [v.run for v in list_votes(tmp_path)] == ["r", "other"]
    assert list_votes(tmp_path)[1].time.endswith("+00:00")


def test_a_ballot_counts_once_and_half_a_surrogate_pair_does_no_harm(tmp_path: Path) -> None:
    assert add_vote(tmp_path, vote(ballot="x", question="\ud83d"))
    assert not add_vote(tmp_path, vote("base", ballot="x"))
    assert [v.vote for v in list_votes(tmp_path)] == ["tuned"]


@pytest.mark.parametrize(
    "wrong", [{"choice": "else"}, {"left": "tuned"}, {"left": "tie"}, {"right": "", "choice": ""}]
)
def test_a_vote_names_one_of_two_systems(wrong: dict[str, str]) -> None:
    with pytest.raises(RunError, match=r"vote must be|two systems"):
        vote(**wrong)


def test_ties_are_counted_and_decide_nothing() -> None:
    swapped = {"left": "tuned", "right": "base"}
    votes = [vote(), vote("tuned", **swapped), vote("base"), vote(TIE), vote(BOTH_BAD, **swapped)]
    third = [vote("a-run", "base", "a-run")]
    pair, other = tally(votes + third)
    assert (pair.system, pair.against, pair.votes) == ("tuned", "base", 5)
    assert (pair.wins, pair.losses, pair.ties, pair.both_bad) == (2, 1, 1, 1)
    assert pair.rate.decided == 3 and pair.rate.share == pytest.approx(2 / 3)
    assert 0 < pair.rate.low < 2 / 3 < pair.rate.high < 1
    assert (other.system, other.against, other.wins) == ("a-run", "base", 1)
    assert tally([]) == []


def test_exports_hold_everything_and_no_cell_is_a_formula(tmp_path: Path) -> None:
    add_vote(tmp_path, vote(question="=cmd()", left_answer="@x", settings={"seed": 1}))
    votes = list_votes(tmp_path)
    (row,) = csv.DictReader(io.StringIO(votes_csv(votes), newline=""))
    assert (row["question"], row["left_answer"]) == ("'=cmd()", "'@x")
    assert json.loads(row["settings"]) == {"seed": 1} and row["vote"] == "tuned"
    values = json.loads(votes_json(votes))
    assert values["votes"][0]["question"] == "=cmd()" and values["tally"][0]["wins"] == 1


def test_a_damaged_or_newer_file_gets_one_sentence_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(b"not a database at all" * 100)
    for use in (lambda: list_votes(tmp_path), lambda: add_vote(tmp_path, vote())):
        with pytest.raises(RunError, match=r"votes\.sqlite are damaged"):
            use()
    assert path.read_bytes() == b"not a database at all" * 100
    path.unlink()
    add_vote(tmp_path, vote())
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + bytes(range(256)) * 32)
    with pytest.raises(RunError, match="damaged"):
        list_votes(tmp_path)
    path.write_bytes(whole[:60] + (99).to_bytes(4, "big") + whole[64:])  # user_version
    with pytest.raises(RunError, match="newer version"):
        add_vote(tmp_path, vote())


def test_a_folder_that_cannot_be_written_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be read or written"):
        add_vote(tmp_path / "file" / "runs", vote())
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(RunError, match="cannot be read or written"):
        add_vote(tmp_path, vote())


def test_there_are_forty_probe_questions_unlike_the_training_rows() -> None:
    from qa_lora.config import TrainConfig
    from qa_lora.data import load_split, question_key

    probes = bundled_probe_questions()
    assert len(probes.near) == len(probes.general) == 20 and len(set(probes.all)) == 40
    split = load_split(TrainConfig(data="atlas"))
    rows = [*split.train, *split.validation, *split.test]
    trained = {question_key(e.question, e.context) for e in rows}
    assert not trained & {question_key(question, "") for question in probes.all}
    openings = {" ".join(e.question.split()[:3]).lower() for e in rows}
    assert not openings & {" ".join(q.split()[:3]).lower() for q in probes.near}


def test_questions_of_ones_own_are_one_a_line() -> None:
    assert questions_from_lines("  a?\r\n\n b?\na?\n \t") == ["a?", "b?"]
