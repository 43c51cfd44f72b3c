"""Files and folders are whole or as they were, wherever a writer fails or is killed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qa_lora.files import recover_folder, replaced_file, replaced_folder


def fill(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    return folder


def content(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in files}


def run_until_killed(code: str, *arguments: Path) -> None:
    """Run code in a process that ends itself as SIGKILL or a power cut would."""
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=False)
    assert done.returncode == 77


@pytest.mark.parametrize("before", [None, "old"])
def test_a_file_is_replaced(tmp_path: Path, before: str | None) -> None:
    target = tmp_path / "state.json"
    if before is not None:
        target.write_text(before)
    with replaced_file(target) as beside:
        beside.write_text("new")
        assert (target.read_text() if target.exists() else None) == before
    assert target.read_text() == "new" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
@pytest.mark.parametrize("before", [None, "old"])
@pytest.mark.parametrize("written", [None, "", "half"])
def test_a_file_is_as_it_was_when_the_writer_fails(
    tmp_path: Path, before: str | None, written: str | None, error: BaseException
) -> None:
    target = tmp_path / "state.json"
    if before is not None:
        target.write_text(before)
    with pytest.raises(type(error)), replaced_file(target) as beside:
        if written is not None:
            beside.write_text(written)
        raise error
    assert (target.read_text() if target.exists() else None) == before
    assert len(list(tmp_path.iterdir())) == (before is not None)


def test_a_writer_that_writes_nothing_replaces_nothing(tmp_path: Path) -> None:
    target = fill(tmp_path, state="old") / "state"
    with pytest.raises(FileNotFoundError), replaced_file(target):
        pass
    assert content(tmp_path) == {"state": "old"}


@given(steps=st.integers(min_value=0, max_value=4), first=st.booleans())
@settings(
    deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_folder_is_as_it_was_wherever_the_writer_fails(
    tmp_path: Path, steps: int, first: bool
) -> None:
    target = tmp_path / f"{steps}-{first}" / "adapter"
    before = {} if first else {"weights": "old", "deep/config": "old"}
    if not first:
        fill(target, weights="old", deep__config="old")
    actions = [
        lambda folder: fill(folder, weights="new"),
        lambda folder: fill(folder, deep__config="new"),
        lambda folder: (folder / "weights").unlink(),
        lambda folder: fill(folder, extra="new"),
    ]
    with pytest.raises(OSError, match="No space"), replaced_folder(target) as new:
        assert content(new) == {}
        for action in actions[:steps]:
            action(new)
        raise OSError(errno.ENOSPC, "No space left on device")
    assert content(target) == before
    assert list(target.parent.iterdir()) == ([] if first else [target])


def test_a_folder_is_replaced_whole_not_merged(tmp_path: Path) -> None:
    target = fill(tmp_path / "runs" / "adapter", weights="old", gone="old")
    with replaced_folder(target) as new:
        fill(new, weights="new", deep__config="new")
        assert content(target) == {"weights": "old", "gone": "old"}
    assert content(target) == {"weights": "new", "deep/config": "new"}
    assert list(target.parent.iterdir()) == [target]


def test_a_first_folder_makes_its_parents(tmp_path: Path) -> None:
    with replaced_folder(tmp_path / "a" / "b" / "adapter") as new:
        fill(new, weights="new")
    assert content(tmp_path) == {"a/b/adapter/weights": "new"}


def test_what_an_earlier_kill_left_does_not_get_in(tmp_path: Path) -> None:
    target = fill(tmp_path / "adapter", weights="old")
    fill(tmp_path / ".adapter.new", half="half")
    fill(tmp_path / ".adapter.old", weights="older")
    with replaced_folder(target) as new:
        fill(new, weights="new")
    assert content(tmp_path) == {"adapter/weights": "new"}


KILLED = """
import os, sys
from pathlib import Path
from qa_lora.files import replaced_folder
target, kill_at = Path(sys.argv[1]), sys.argv[2]
rename = Path.rename
def rename_or_die(self, to):
    if f"{self.name}>{to.name}" == kill_at:
        os._exit(77)
    return rename(self, to)
Path.rename = rename_or_die
with replaced_folder(target) as new:
    (new / "weights").write_text("half")
    if kill_at == "writing":
        os._exit(77)
    (new / "weights").write_text("new")
"""


@pytest.mark.parametrize(
    ("kill_at", "left"),
    [("writing", "old"), ("adapter>.adapter.old", "old"), (".adapter.new>adapter", "new")],
)
def test_a_kill_leaves_the_old_folder_or_the_new(tmp_path: Path, kill_at: str, left: str) -> None:
    target = fill(tmp_path / "adapter", weights="old")
    run_until_killed(KILLED, target, Path(kill_at))
    recover_folder(target)
    assert content(target) == {"weights": left}
    recover_folder(target)
    assert content(target) == {"weights": left}
    with replaced_folder(target) as new:
        fill(new, weights="next")
    assert content(tmp_path) == {"adapter/weights": "next"}


KEPT = KILLED.replace("replaced_folder(target)", "replaced_folder(target, keep=Path(sys.argv[3]))")


@pytest.mark.parametrize(
    ("kill_at", "left"),
    [
        ("writing", {"state": "2", "before": "1"}),
        ("before>.state.old", {"state": "2", "before": "1"}),
        ("state>before", {"state": "2"}),
        (".state.new>state", {"before": "2"}),
    ],
)
def test_a_kill_leaves_one_whole_folder_of_two_at_least(
    tmp_path: Path, kill_at: str, left: dict[str, str]
) -> None:
    target, before = tmp_path / "state", tmp_path / "before"
    fill(before, weights="1")
    fill(target, weights="2")
    run_until_killed(KEPT, target, Path(kill_at), before)
    found = {f.name: content(f)["weights"] for f in (target, before) if f.exists()}
    assert found == left
    with replaced_folder(target, keep=before) as new:
        fill(new, weights="3")
    assert content(target) == {"weights": "3"} and content(before)["weights"] in "12"
    assert {path.name for path in tmp_path.iterdir()} == {"state", "before"}


def test_the_next_save_recovers_by_itself_and_keeps_the_copy_if_it_fails(tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    fill(tmp_path / ".adapter.old", weights="old")
    with pytest.raises(OSError, match="No space"), replaced_folder(target) as new:
        fill(new, weights="half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert content(tmp_path) == {"adapter/weights": "old"}


def test_recovery_of_what_needs_none(tmp_path: Path) -> None:
    recover_folder(tmp_path / "nothing")
    fill(tmp_path / ".half.new", weights="half")
    recover_folder(tmp_path / "half")
    assert not (tmp_path / "half").exists()
    target = fill(tmp_path / "adapter", weights="whole")
    recover_folder(target)
    assert content(target) == {"weights": "whole"}


def test_a_reader_that_recovers_between_the_renames_harms_no_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The app asks for the adapter while the worker saves it.
    target = fill(tmp_path / "adapter", weights="old")
    rename = Path.rename

    def rename_after_a_look(path: Path, to: Path) -> Path:
        if path.name == ".adapter.new":
            monkeypatch.undo()
            recover_folder(target)
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", rename_after_a_look)
    with replaced_folder(target) as new:
        fill(new, weights="new")
    assert content(tmp_path) == {"adapter/weights": "new"}


def test_a_writer_that_is_faster_than_the_recovery_harms_no_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "adapter"
    fill(tmp_path / ".adapter.old", weights="old")
    rename = Path.rename

    def rename_too_late(path: Path, to: Path) -> Path:
        monkeypatch.undo()
        fill(target, weights="new")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", rename_too_late)
    recover_folder(target)
    assert content(target) == {"weights": "new"}


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    target = fill(tmp_path / "locked" / "adapter", weights="old")
    target.parent.chmod(0o500)
    try:
        with pytest.raises(PermissionError), replaced_folder(target):
            raise AssertionError("nothing to fill")
        with pytest.raises(PermissionError), replaced_file(target.parent / "f") as beside:
            beside.write_text("new")
    finally:
        target.parent.chmod(0o700)
    assert content(target.parent) == {"adapter/weights": "old"}


def test_a_file_in_place_of_the_folder_is_an_error_not_a_loss(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(OSError, match="runs"), replaced_folder(tmp_path / "runs" / "adapter"):
        raise AssertionError("nothing to fill")
    assert content(tmp_path) == {"runs": "a file"}
