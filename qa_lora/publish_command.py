"""``qa-lora publish``: its options, and what it does."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from qa_lora import runs, terminal
from qa_lora.errors import ConfigError

if TYPE_CHECKING:
    from qa_lora.publishing import Plan

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add("run", metavar="RUN", help="a run's id or folder")
    add("--repo-id", required=True, metavar="USER/NAME", help="what it is called on the Hub")
    add("--public", action="store_true", help="let everybody see it (default: its owner alone)")
    add("--dry-run", action="store_true", help="show and scan every file; upload nothing")
    add(
        "--update",
        action="store_true",
        help="replace what another run, or somebody, has put there; no file is ever deleted",
    )
    add("--message", default="", metavar="M", help="of the commit")
    add("--license", default="", metavar="L", help="of the adapter, such as apache-2.0")
    add("--revision", metavar="BRANCH", help="upload to this branch (default: main)")
    add("--pr", action="store_true", help="propose it as a pull request instead")
    add(
        "--examples",
        type=int,
        metavar="N",
        help="held-out questions that the card shows with their answers (default: 3, and none of "
        "data that lies on this machine alone)",
    )


def run(parsed: argparse.Namespace) -> dict[str, Any]:
    """Look, show, and upload unless it is a dry run."""
    if parsed.examples is not None and parsed.examples < 0:
        raise ConfigError("--examples must not be negative.")
    if parsed.pr and parsed.revision:
        raise ConfigError("--pr is a proposal for main and does not go with --revision.")
    from huggingface_hub import get_token

    from qa_lora.publishing import check, plan, upload

    token = get_token()
    planned = plan(
        runs.find(parsed.run, parsed.runs_dir),
        parsed.repo_id,
        token=token,
        private=not parsed.public,
        licence=parsed.license,
        revision=parsed.revision,
        examples=parsed.examples,
        offline=parsed.dry_run,
    )
    _show(planned, quiet=parsed.json)
    found = planned.to_dict() | {"url": None, "dry_run": parsed.dry_run, "uploaded": 0}
    if parsed.dry_run:
        return found
    check(planned, update=parsed.update)
    done = upload(
        planned,
        token,
        update=parsed.update,
        message=parsed.message,
        pull_request=parsed.pr,
        tell=lambda sentence: terminal.say(sentence, quiet=parsed.json),
    )
    seen = "private" if done.private else "public"
    what = f"{done.files} files uploaded" if done.files else "All files are there already"
    terminal.say(f"{what}: {done.url} ({seen})", quiet=parsed.json)
    return found | {"url": done.url, "uploaded": done.files}


def _show(planned: Plan, *, quiet: bool) -> None:
    there = {None: "", True: ", which is there", False: ", which will be made"}[planned.exists]
    seen = "private" if planned.private else "public"
    terminal.say(f"{planned.run} to {planned.repo_id} ({seen}){there}:", quiet=quiet)
    terminal.show_table(
        ("file", "size", "change", "found in it"),
        [
            (
                file.name,
                f"{file.size / 1000:,.1f} kB",
                file.change,
                "; ".join(f"line {finding.line}: {finding.what}" for finding in file.findings),
            )
            for file in planned.files
        ],
        quiet=quiet,
    )
    for sentence in (*planned.notes, *planned.asks):
        terminal.say(f"- {sentence}", quiet=quiet)
