"""An adapter of the Hub: only the files that are needed, and never a pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qa_lora.adapter_archive import choose_folder
from qa_lora.adapter_settings import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from qa_lora.adapter_weights import without_weights
from qa_lora.errors import ModelError, first_line
from qa_lora.hub_access import why_not

__all__ = ["download"]


def download(repo: str, wanted: Mapping[str, int], revision: str | None = None) -> tuple[Path, str]:
    """Download an adapter, or take it from the cache of the Hub's client if it is there whole.

    Args:
        repo: Its Hub id.
        wanted: Names of the files to take, with the most bytes each may have.
        revision: A branch, tag or commit; the main branch if None.

    Returns:
        Its folder in the cache, and the commit it is of.

    Raises:
        ModelError: If the Hub does not give it, or it is no adapter that is read.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    what = f"The adapter {repo}"
    patterns = list(wanted)
    info: Any = None
    if not constants.HF_HUB_OFFLINE:
        try:
            info = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=15)
        except Exception as error:  # the Hub's client raises errors of several libraries
            _explain_unless_cached(repo, revision, patterns, error)
    if info is not None:
        _check_listing({f.rfilename: f.size or 0 for f in info.siblings or ()}, wanted, what)
    try:
        folder = Path(
            snapshot_download(
                repo,
                revision=info.sha if info is not None else revision,
                allow_patterns=patterns,
                local_files_only=info is None,
            )
        )
    except Exception as error:  # as above
        raise ModelError(
            f"{what} is no local run, folder or imported adapter, and could not be loaded from the "
            f"Hub: {first_line(error)}.",
            "Check the name and the network.",
        ) from None
    if not (folder / ADAPTER_CONFIG).is_file():
        raise ModelError(
            f"{what} holds no {ADAPTER_CONFIG}.", "It is no adapter, or was only loaded by half."
        )
    return folder, folder.name


def _explain_unless_cached(
    repo: str, revision: str | None, patterns: list[str], error: Exception
) -> None:
    """Go on without the Hub if all is here already; else say why it gave nothing."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

    if isinstance(error, RevisionNotFoundError):
        raise ModelError(
            f"The adapter {repo} has no revision {revision}.", "Name a branch, a tag or a commit."
        ) from None
    if not isinstance(error, HfHubHTTPError):
        try:
            snapshot_download(
                repo, revision=revision, allow_patterns=patterns, local_files_only=True
            )
            return
        except Exception:
            pass
    refusal = why_not(repo, "model")
    raise ModelError(
        f"The adapter {repo} cannot be loaded: {refusal.reason if refusal else first_line(error)}.",
        (refusal.hint if refusal else "") or "Check the name and the network.",
    ) from None


def _check_listing(sizes: Mapping[str, int], wanted: Mapping[str, int], what: str) -> None:
    """Refuse by the list of its files, before anything is downloaded."""
    where = choose_folder(list(sizes), what)
    if where:
        raise ModelError(
            f"{what} holds its {ADAPTER_CONFIG} in the folder {where.rstrip('/')}.",
            "Download that folder and import it from there.",
        )
    if ADAPTER_WEIGHTS not in sizes:
        raise without_weights(sizes, what)
    for name, most in wanted.items():
        if sizes.get(name, 0) > most:
            raise ModelError(f"{what} is too large: {name} has {sizes[name]:,} bytes.")
