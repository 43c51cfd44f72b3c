"""Where backups go: a folder, such as a mounted volume, or a private repository on the Hub."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from qa_lora.errors import PublishError, RunError, first_line
from qa_lora.files import replaced_folder

__all__ = ["is_repo", "store_in"]

_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)


def is_repo(place: str) -> bool:
    """Whether a place is a repository: USER/NAME, and there is no such folder."""
    return bool(_REPO.fullmatch(place)) and not Path(place).exists()


def store_in(place: str) -> Callable[[Path, str], None]:
    """What puts a run's folder into a place, under the run's id, in one step."""
    return _Repository(place) if is_repo(place) else _Folder(place)


class _Folder:
    def __init__(self, place: str) -> None:
        self._folder = Path(place).expanduser()

    def __call__(self, snapshot: Path, run_id: str) -> None:
        try:
            with replaced_folder(self._folder / run_id) as new:
                shutil.copytree(snapshot, new, dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise RunError(
                f"The backup folder {self._folder} cannot be written: {reason}."
            ) from None


class _Repository:
    """Files of a run lie in a folder of its name, so that one repository keeps many runs."""

    def __init__(self, place: str) -> None:
        self._repo = place
        self._checked = False

    def __call__(self, snapshot: Path, run_id: str) -> None:
        from qa_lora.publishing.login import machine_token
        from qa_lora.publishing.refusals import LOGIN, api_for, explain

        token = machine_token()
        if token is None:
            raise PublishError(f"A backup to {self._repo} needs a login.", LOGIN)
        api = api_for(token)
        try:
            if not self._checked:
                api.create_repo(self._repo, private=True, exist_ok=True)
            # Each time, for somebody may have made it public: settings name files of the machine.
            if not api.model_info(self._repo).private:
                raise PublishError(
                    f"{self._repo} is public, and backups go to private repositories only."
                )
            self._checked = True
            api.upload_folder(
                repo_id=self._repo,
                folder_path=snapshot,
                path_in_repo=run_id,
                commit_message=f"Back up {run_id}",
                delete_patterns=["*"],  # of the run's own folder alone
            )
        except PublishError:
            raise
        except Exception as error:  # of several libraries
            raise explain(error, self._repo) from None
