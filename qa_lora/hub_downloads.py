"""Fetch a base model from the Hub: told as it goes, stopped at any moment, gone on with next time.

The Hub's client throws away what it has of a file when it is stopped. So large files are fetched
here, into the place where the client's own cache expects them; what is left of one lies beside it.
All else, from the login to the folder that a model is read from, is the client's. Loads no torch.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from qa_lora.errors import ModelError, QALoRAError
from qa_lora.files import replaced_file
from qa_lora.hub_access import ask, refusal_of
from qa_lora.hub_file import DownloadStoppedError, check_room, fetch_large
from qa_lora.hub_plan import CONFIG, INDEX, WEIGHTS, Plan, make_plan

__all__ = [
    "Download",
    "bring",
    "commit_of",
    "describe",
    "find_here",
    "under_way",
    "watched",
]

BRANCH = "main"
TOKENIZERS = ("tokenizer.json", "spiece.model", "tokenizer.model", "vocab.json")
LOOK_SECONDS = 0.2

_lock = threading.Lock()
_under_way: list[Download] = []
_watchers: list[Callable[[Download], None]] = []


class Download:
    """A base model on its way from the Hub, in a thread of its own.

    Args:
        repo: The model's id.
        commit: The state of it that is wanted; the newest if None.
        check: Looks at the folder while it has only the small files, and raises if the large ones
            are not worth fetching.
    """

    def __init__(
        self, repo: str, commit: str | None = None, check: Callable[[Path], None] | None = None
    ) -> None:
        self.repo = repo
        self._commit = commit
        self._check = check
        self._plan: Plan | None = None
        self._small = 0
        """Bytes of the small files, once they are here."""
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._folder: Path | None = None
        self._error: BaseException | None = None

    @property
    def total(self) -> int:
        """Bytes of all that is needed; 0 until the Hub has said it."""
        return self._plan.total if self._plan is not None else 0

    @property
    def done(self) -> int:
        """Bytes that are here."""
        plan = self._plan
        if plan is None:
            return 0
        return self.total if self._folder else self._small + sum(f.here for f in plan.large)

    @property
    def ended(self) -> bool:
        """Whether it is over, one way or the other."""
        return self._ended.is_set()

    def start(self) -> None:
        """Begin."""
        with _lock:
            _under_way.append(self)
        # A daemon: it ends with the process, whatever the Hub keeps it waiting for.
        threading.Thread(target=self._work, name=f"download {self.repo}", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Wait until it is over, but no longer than this; whether it is."""
        return self._ended.wait(seconds)

    def stop(self) -> None:
        """End it; what is here already stays."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        """Whether somebody has asked for its end."""
        return self._stop.is_set()

    def result(self) -> Path:
        """The model's folder, once it is over.

        Raises:
            DownloadStoppedError: If it was stopped.
            ModelError: If the Hub does not give the model, or the disk does not take it.
        """
        if self._error is not None:
            raise self._error
        assert self._folder is not None
        return self._folder

    def _work(self) -> None:
        try:
            plan = self._plan = ask(lambda: make_plan(self.repo, self._commit), wait=self._pause)
            folder = self._fetch_small(plan)
            self._small = plan.small_bytes
            if self._check is not None:
                self._check(folder)
            check_room(plan.repo, plan.large)
            for file in plan.large:
                fetch_large(file, self._stop)
                self._fetch(
                    plan, file.name
                )  # the client finds it here, and lays it into the folder
            ref = folder.parents[1] / "refs" / BRANCH
            # An older state, fetched for a run that was trained on it, does not replace the newest.
            if self._commit is None or not ref.exists():
                ref.parent.mkdir(exist_ok=True)
                with replaced_file(ref) as beside:
                    beside.write_text(plan.commit, "utf-8")
            self._folder = folder
        except QALoRAError as error:
            self._error = error
        except Exception as error:  # the Hub's client raises many kinds, from several libraries
            refusal = refusal_of(error, self.repo, "model")
            self._error = ModelError(
                f"The model {self.repo} is no local folder, and {refusal.reason}.",
                refusal.hint or "Check the name and the network, or use pocket, which is bundled.",
            )
        finally:
            with _lock:
                _under_way.remove(self)
            self._ended.set()

    def _fetch_small(self, plan: Plan) -> Path:
        paths = {name: self._fetch(plan, name) for name in plan.small}
        if CONFIG not in paths:
            raise ModelError(f"The model {plan.repo} has no {CONFIG}.")
        return paths[CONFIG].parent

    def _fetch(self, plan: Plan, name: str) -> Path:
        from huggingface_hub import hf_hub_download

        if self.stopped:
            raise DownloadStoppedError(self.repo)
        work = partial(hf_hub_download, plan.repo, name, revision=plan.commit)
        return Path(ask(work, wait=self._pause))

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise DownloadStoppedError(self.repo)


def bring(
    repo: str, commit: str | None = None, check: Callable[[Path], None] | None = None
) -> Path:
    """The folder of a base model of the Hub, fetched if it is not here.

    Whoever waits for it can be shown it by :func:`watched`.

    Args:
        repo: Its id.
        commit: The state of it that is wanted; any that is here, else the newest, if None.
        check: As for :class:`Download`.

    Raises:
        DownloadStoppedError: If it was stopped.
        ModelError: If the Hub does not give it, or it has no safetensors weights.
    """
    here = find_here(repo, commit)
    if here is not None:
        return here
    download = Download(repo, commit, check)
    download.start()
    try:
        while not download.wait(LOOK_SECONDS):
            for watcher in (*_watchers,):
                watcher(download)
    except BaseException:  # Ctrl-C, above all
        download.stop()
        raise
    for watcher in (*_watchers,):
        watcher(download)
    return download.result()


@contextmanager
def watched(watcher: Callable[[Download], None]) -> Iterator[None]:
    """Tell a function of every download in this process, several times a second."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


def under_way() -> list[Download]:
    """The downloads of this process that are neither over nor stopped."""
    with _lock:
        return [download for download in _under_way if not download.stopped]


def describe(repo: str, done: int, total: int) -> str:
    """How far a download is, as in "google/flan-t5-small 45 %, 140 of 308 MB"."""
    if not total:
        return repo
    return f"{repo} {100 * done // total} %, {done / 1e6:,.0f} of {total / 1e6:,.0f} MB"


def find_here(repo: str, commit: str | None = None) -> Path | None:
    """The folder of a base model in the cache, if all of it is there; asks nobody.

    Args:
        repo: Its id.
        commit: The state of it that is wanted; the newest that was fetched if None.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    with suppress(HFValidationError):
        config = try_to_load_from_cache(repo, CONFIG, revision=commit or BRANCH)
        if isinstance(config, str):
            folder = Path(config).parent
            if _has_weights(folder) and _has_tokenizer(folder):
                return folder
    return None


def commit_of(repo: str) -> str | None:
    """The commit of the state of a base model that the cache has; None if it has none."""
    here = find_here(repo)
    return here.name if here is not None else None


def _has_weights(folder: Path) -> bool:
    if (folder / WEIGHTS).is_file():
        return True
    try:
        parts = json.loads((folder / INDEX).read_text("utf-8"))["weight_map"].values()
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False
    return all((folder / str(part)).is_file() for part in parts)


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TOKENIZERS)
