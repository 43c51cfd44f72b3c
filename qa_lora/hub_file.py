"""One large file of the Hub, fetched so that what has arrived is never fetched again."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from qa_lora.errors import ModelError
from qa_lora.hub_access import LONGEST_WAIT, PASSING, WAITS, retry_after

__all__ = ["DownloadStoppedError", "LargeFile", "check_room", "fetch_large"]

LOOK_SECONDS = 0.2
READ_BYTES = 1 << 20


class DownloadStoppedError(ModelError):
    """A download was stopped by whoever waited for it."""

    def __init__(self, repo: str) -> None:
        super().__init__(
            f"The download of {repo} was stopped.", "What has arrived is kept for the next time."
        )


@dataclass(frozen=True)
class LargeFile:
    """A file that the Hub keeps outside of git."""

    repo: str
    commit: str
    name: str
    size: int
    sha256: str

    @property
    def blob(self) -> Path:
        """Where the cache of the Hub's client has it: by its content."""
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        folder = repo_folder_name(repo_id=self.repo, repo_type="model")
        return Path(constants.HF_HUB_CACHE) / folder / "blobs" / self.sha256

    @property
    def part(self) -> Path:
        """What has arrived of it."""
        return self.blob.with_name(f"{self.sha256}.qa-lora-part")

    @property
    def here(self) -> int:
        """Bytes of it that have arrived."""
        for path in (self.part, self.blob):
            try:
                return path.stat().st_size
            except OSError:
                continue
        return 0


def check_room(repo: str, files: Sequence[LargeFile]) -> None:
    """Refuse before the first byte what the disk cannot hold.

    Raises:
        ModelError: If there is too little room.
    """
    missing = sum(file.size - file.here for file in files)
    if not files or not missing:
        return
    folder = files[0].blob.parent
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise ModelError(
            f"The model {repo} needs {missing / 1e6:,.0f} MB more in {folder}, where "
            f"{free / 1e6:,.0f} MB are free.",
            "Free some disk space, or set HF_HOME to a folder on another disk.",
        )


def fetch_large(file: LargeFile, stop: threading.Event) -> None:
    """Fetch a file, from where it was left.

    Raises:
        DownloadStoppedError: If `stop` is set meanwhile.
        ModelError: If what has arrived is not what the Hub announced.
        Exception: What the Hub's client raises.
    """
    with _alone(file, stop):
        if file.blob.is_file():
            return
        waits = iter(WAITS)
        while (have := file.here) < file.size:
            try:
                _fetch_rest(file, have, stop)
                error: Exception = _nothing_came(file)
            except Exception as raised:
                if isinstance(raised, DownloadStoppedError) or not _passes(raised):
                    raise
                error = raised
            if file.here > have:  # it may have been cut, but it got on
                waits = iter(WAITS)
                continue
            seconds = next(waits, None)
            if seconds is None:
                raise error
            asked_for = retry_after(error)
            if stop.wait(seconds if asked_for is None else asked_for):
                raise DownloadStoppedError(file.repo) from None
        _check(file, stop)
        file.part.replace(file.blob)


def _fetch_rest(file: LargeFile, have: int, stop: threading.Event) -> None:
    from huggingface_hub import constants, get_session, hf_hub_url
    from huggingface_hub.utils import (  # type: ignore[attr-defined] # documented all the same
        build_hf_headers,
        hf_raise_for_status,
    )

    # Compressed, a part of it would not be a part of the file.
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    url = hf_hub_url(file.repo, file.name, revision=file.commit)
    seconds = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream(
        "GET", url, headers=headers, follow_redirects=True, timeout=seconds
    ) as response:
        hf_raise_for_status(response)
        goes_on = have and response.status_code == 206
        with file.part.open("ab" if goes_on else "wb", buffering=0) as part:
            for piece in response.iter_bytes():
                if stop.is_set():
                    raise DownloadStoppedError(file.repo)
                while piece:  # an unbuffered file may take less
                    piece = piece[part.write(piece) :]


def _nothing_came(file: LargeFile) -> ModelError:
    return ModelError(f"The Hub sends nothing of {file.name} of {file.repo}.", "Try again later.")


def _passes(error: Exception) -> bool:
    """Whether to try again makes sense."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        wait = retry_after(error)
        return error.response.status_code in PASSING and (wait is None or wait <= LONGEST_WAIT)
    # What is no word of the Hub and no fault of the disk is the connection's.
    return not isinstance(error, OSError)


def _check(file: LargeFile, stop: threading.Event) -> None:
    """A file of several pieces is only as good as its sum."""
    sha256 = hashlib.sha256()
    with file.part.open("rb") as part:
        while data := part.read(READ_BYTES):
            sha256.update(data)
            if stop.is_set():
                raise DownloadStoppedError(file.repo)
    if sha256.hexdigest() != file.sha256:
        file.part.unlink()
        raise ModelError(
            f"{file.name} of {file.repo} was damaged on its way from the Hub.", "Try again."
        )


@contextmanager
def _alone(file: LargeFile, stop: threading.Event) -> Iterator[None]:
    """One process fetches a file; another one that wants it waits, and then has it."""
    from filelock import FileLock, Timeout

    file.part.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{file.part}.lock")
    while True:
        try:
            lock.acquire(timeout=LOOK_SECONDS)
            break
        except Timeout:
            if stop.is_set():
                raise DownloadStoppedError(file.repo) from None
    try:
        yield
    finally:
        lock.release()
