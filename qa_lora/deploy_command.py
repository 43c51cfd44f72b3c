"""``qa-lora deploy``: its options, and what it does."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qa_lora import terminal
from qa_lora.errors import ConfigError

if TYPE_CHECKING:
    from qa_lora.spaces.planning import SpacePlan

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add("--space-id", required=True, metavar="OWNER/NAME", help="the Space to make or to update")
    add(
        "--config", type=Path, metavar="F.yaml", help="instead of the checkout's spaces_config.yaml"
    )
    add("--hardware", metavar="H", help="instead of the one in the file, such as zero-a10g")
    add("--sleep-time", type=int, metavar="S", help="seconds without a visit; -1 for never")
    add("--public", action="store_true", help="let everybody see a new Space; else it is private")
    add("--no-volumes", action="store_true", help="mount nothing: runs are lost at a restart")
    add("--update", action="store_true", help="take over a Space that QA LoRA did not deploy")
    add("--dry-run", action="store_true", help="show all that would be done, and do nothing")
    add("--no-wait", action="store_true", help="do not wait until the Space runs")
    add(
        "--timeout",
        type=float,
        default=30.0,
        metavar="MIN",
        help="longest wait in minutes (default: 30)",
    )


def run(parsed: argparse.Namespace) -> dict[str, Any]:
    """Plan, show the plan, carry it out, and wait until the Space runs."""
    from qa_lora.spaces.config import SpaceConfig
    from qa_lora.spaces.content import CONFIG, find_checkout, read_content
    from qa_lora.spaces.deploying import carry_out, check_content
    from qa_lora.spaces.planning import make_plan
    from qa_lora.spaces.waiting import wait_until_running

    owner, _, name = parsed.space_id.partition("/")
    if not owner or not name or "/" in name:
        raise ConfigError(
            f"--space-id must be OWNER/NAME; it is {parsed.space_id!r}.",
            "The owner is your user name on the Hub, or an organization's.",
        )
    root = find_checkout()
    changed: dict[str, Any] = {}
    if parsed.hardware is not None:
        changed["hardware"] = parsed.hardware
    if parsed.sleep_time is not None:
        changed["sleep_time"] = parsed.sleep_time
    config = SpaceConfig.from_yaml(parsed.config or root / CONFIG, **changed)
    if parsed.no_volumes:
        config = config.without_volumes()
    content = read_content(root, config)
    check_content(content)

    # Its own endpoint and token are read when it is imported, which is here.
    from huggingface_hub import HfApi

    api = HfApi(library_name="qa-lora")
    plan = make_plan(
        api,
        parsed.space_id,
        config,
        content,
        public=parsed.public,
        update=parsed.update,
        unanswered=parsed.dry_run,
    )
    for line in _lines(plan):
        terminal.say(line, quiet=parsed.json)
    result = plan.to_dict() | {"dry_run": parsed.dry_run}
    if parsed.dry_run:
        terminal.say("Nothing was done (--dry-run).", quiet=parsed.json)
        return result

    def tell(sentence: str) -> None:
        terminal.say(sentence, quiet=parsed.json)

    commit = carry_out(api, plan, config, content, environment=os.environ, tell=tell)
    result |= {"commit": commit, "stage": None}
    if not parsed.no_wait:
        result["stage"] = wait_until_running(
            api,
            parsed.space_id,
            commit=commit,
            before=plan.head,
            timeout=parsed.timeout * 60,
            tell=lambda stage: tell(f"The Space is {stage}."),
        )
    terminal.say(plan.address, quiet=parsed.json)
    return result


def _lines(plan: SpacePlan) -> Iterator[str]:
    """The plan for a person."""
    visible = "private" if plan.private else "public"
    done = "update" if plan.exists else "create"
    yield (
        f"{done.capitalize()} the Space {plan.space_id} "
        f"({visible}, {plan.hardware}, Python {plan.python_version})"
    )
    for bucket in plan.buckets:
        yield f"  bucket     {bucket}, created if it is not there"
    for change in plan.changes:
        if change.what == "hardware" and not plan.exists:
            continue  # is said above
        name = f"{change.name}: " if change.what == "variable" else ""
        before = "" if change.before is None else f"{change.before} -> "
        yield f"  {change.what:<10} {name}{before}{change.after or 'none'}"
    for secret in plan.secrets:
        kept = "as it is in the Space" if secret.there else "not set"
        source = f"from {secret.source} in your environment" if secret.source else kept
        yield f"  secret     {secret.name}: {source}"
    counts = {
        state: sum(file.state == state for file in plan.files)
        for state in ("new", "changed", "same", "deleted")
    }
    size = sum(file.size for file in plan.uploads) / 1e6
    told = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    yield f"  files      {told}; {size:.1f} MB to upload"
    for file in plan.files:
        if file.state != "same":
            yield f"    {file.state:<8} {file.size:>10,}  {file.path}"
    for note in plan.notes:
        yield f"  {note}"
