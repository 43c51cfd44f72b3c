"""Deleted runs can come back, until the trash is emptied."""

from __future__ import annotations

from pathlib import Path

import pytest

from qa_lora import runs, trash
from qa_lora.errors import RunError
from qa_lora.runs import Run
from tests.made_runs import made_run, pretend_alive, started, step, story


def ids(runs_dir: Path) -> list[str]:
    return [run.id for run in runs.list_runs(runs_dir)]


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_deleted_run_comes_back_as_it_was(tmp_path: Path) -> None:
    run = made_run(tmp_path, "one", *story())
    made_run(tmp_path, "two")
    before = content(run.path)
    lies = trash.delete(run)
    assert lies.path == tmp_path / ".trash" / "one" and ids(tmp_path) == ["two"]
    assert [each.id for each in trash.in_trash(tmp_path)] == ["one"]
    back = trash.restore("one", tmp_path)
    assert ids(tmp_path) == ["two", "one"] and content(back.path) == before
    assert trash.in_trash(tmp_path) == []


def test_a_run_at_work_or_in_line_is_not_deleted(tmp_path: Path) -> None:
    run = made_run(tmp_path, "busy", started(), step(1))
    pretend_alive(run)
    with pytest.raises(RunError, match="is being worked on, so it is not deleted"):
        trash.delete(run)
    (run.path / "waiting").write_text("1")
    with pytest.raises(RunError, match="waits for its turn"):
        trash.delete(run)
    assert ids(tmp_path) == ["busy"] and trash.in_trash(tmp_path) == []


def test_a_damaged_run_can_be_deleted_and_a_second_of_the_name_too(tmp_path: Path) -> None:
    for _ in range(2):
        run = made_run(tmp_path, "same")
        (run.path / "config.yaml").unlink()
        (run.path / "checkpoint").mkdir()
        trash.delete(runs.list_runs(tmp_path)[0])
    assert [each.id for each in trash.in_trash(tmp_path)] == ["same-2", "same"]


def test_nothing_is_restored_over_a_run_or_from_elsewhere(tmp_path: Path) -> None:
    runs_dir = tmp_path / "runs"
    trash.delete(made_run(runs_dir, "one"))
    made_run(runs_dir, "one")
    made_run(tmp_path, "outside")
    with pytest.raises(RunError, match="there is one of this name"):
        trash.restore("one", runs_dir)
    for name in ("../../outside", "..", ".", "", "/", "none"):
        with pytest.raises(RunError, match="no run"):
            trash.restore(name, runs_dir)
    assert (tmp_path / "outside" / "config.yaml").exists()


def test_a_run_that_went_meanwhile_is_said_to_be_gone(tmp_path: Path) -> None:
    run = made_run(tmp_path, "one")
    trash.delete(run)
    with pytest.raises(RunError, match="no run one any more"):
        trash.delete(run)


def test_emptying_follows_no_link(tmp_path: Path) -> None:
    runs_dir, outside = tmp_path / "runs", tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    run = made_run(runs_dir, "one")
    (run.path / "link").symlink_to(outside)
    (runs_dir / "linked").symlink_to(made_run(tmp_path, "elsewhere").path)
    for each in runs.list_runs(runs_dir):
        trash.delete(each)
    kept = trash.delete(made_run(runs_dir, "other"))
    assert trash.empty(runs_dir, only=kept) == 1
    assert trash.empty(runs_dir) == 2 and trash.in_trash(runs_dir) == []
    assert (outside / "precious").exists() and (tmp_path / "elsewhere" / "config.yaml").exists()


def test_a_trash_that_leads_elsewhere_is_not_used(tmp_path: Path) -> None:
    run = made_run(tmp_path / "runs", "one")
    (tmp_path / "outside").mkdir()
    (tmp_path / "runs" / ".trash").symlink_to(tmp_path / "outside")
    with pytest.raises(RunError, match="link"):
        trash.delete(run)
    assert run.path.exists() and not list((tmp_path / "outside").iterdir())
    for name in ("precious", ".precious.going"):
        (tmp_path / "outside" / name).mkdir()
    assert trash.in_trash(tmp_path / "runs") == [] and trash.empty(tmp_path / "runs") == 0
    assert len(list((tmp_path / "outside").iterdir())) == 2


def test_what_is_half_deleted_cannot_be_restored_and_goes_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        trash.delete(made_run(tmp_path, name, *story()))
    with monkeypatch.context() as killed:

        def die(path: Path) -> None:
            (path / "config.yaml").unlink()
            raise KeyboardInterrupt

        killed.setattr("shutil.rmtree", die)
        with pytest.raises(KeyboardInterrupt):
            trash.empty(tmp_path, only=trash.in_trash(tmp_path)[0])
    assert [run.id for run in trash.in_trash(tmp_path)] == ["one"]
    with pytest.raises(RunError, match="no run two"):
        trash.restore("two", tmp_path)
    assert trash.empty(tmp_path) == 1
    assert list((tmp_path / ".trash").iterdir()) == []


def test_what_cannot_be_deleted_is_seen_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trash.delete(made_run(tmp_path, "one"))
    with monkeypatch.context() as full:

        def refuse(path: Path) -> None:
            raise PermissionError(13, "Permission denied")

        full.setattr("shutil.rmtree", refuse)
        with pytest.raises(RunError, match="one cannot be deleted from the trash: Permission"):
            trash.empty(tmp_path)
    assert [run.id for run in trash.in_trash(tmp_path)] == ["one"]


def test_a_report_is_not_written_for_a_deleted_run(tmp_path: Path) -> None:
    from qa_lora.report import save_report
    from tests.made_reports import make_report

    run = made_run(tmp_path, "one")
    trash.delete(run)
    with pytest.raises(RunError, match="cannot be saved"):
        save_report(make_report({"base": [0.1], "tuned": [0.2]}), run.evaluations_dir)
    assert not run.path.exists() and trash.restore("one", tmp_path) is not None


def test_nothing_is_in_the_trash_of_no_folder(tmp_path: Path) -> None:
    assert trash.in_trash(tmp_path / "none") == [] and trash.empty(tmp_path / "none") == 0
    assert isinstance(trash.delete(made_run(tmp_path, "one")), Run)
