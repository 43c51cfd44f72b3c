"""How a Space of the loopback Hub is set up and looked at."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.loopback_hub.repo import Repo

if TYPE_CHECKING:
    from tests.loopback_hub.server import Handler

VERBS = (
    "secrets", "variables", "runtime", "hardware", "sleeptime", "volumes", "pause", "restart",
    "logs",
)  # fmt: skip
HARDWARE = ("cpu-basic", "cpu-upgrade", "zero-a10g", "t4-small", "t4-medium", "l4x1", "a10g-small")
UPDATED = "2026-01-01T00:00:00.000Z"


def answer(handler: Handler, repo: Repo, verb: str, rest: str) -> None:
    """Do and send what is asked for."""
    asked: dict[str, Any] = handler.json() if handler.body else {}
    if verb in ("secrets", "variables"):
        _keep(handler, repo, verb, asked)
    elif verb == "logs":
        lines = repo.logs.get(rest, [])
        said = "".join(f"data: {json.dumps({'data': line})}\n\n" for line in lines)
        handler.send(200, said.encode(), {"Content-Type": "text/event-stream"})
    elif verb == "runtime":
        handler.send(200, repo.look_at_runtime())
    elif verb == "hardware":
        if asked["flavor"] not in HARDWARE:
            handler.send(400, {"error": f"there is no hardware {asked['flavor']}"})
        repo.hardware = asked["flavor"]
        repo.sleep_time = asked.get("sleepTimeSeconds", repo.sleep_time)
    elif verb == "sleeptime":
        repo.sleep_time = asked["seconds"]
    elif verb == "volumes":
        repo.volumes = asked.get("volumes", [])
    elif verb == "pause":
        repo.runtime_stage, repo.upcoming = "PAUSED", []
    elif verb == "restart":
        repo.upcoming = list(repo.build)
        repo.look_at_runtime()
    handler.send(200, repo.runtime())


def list_hardware(handler: Handler) -> None:
    """What a Space can run on."""
    handler.send(200, [
        {"name": name, "prettyName": name, "cpu": "2 vCPU", "ram": "16 GB", "accelerator": None,
         "unitCostMicroUSD": 0, "unitCostUSD": 0.0, "unitLabel": "minute"}
        for name in HARDWARE
    ])  # fmt: skip


def _keep(handler: Handler, repo: Repo, verb: str, asked: dict[str, Any]) -> None:
    kept = repo.secrets if verb == "secrets" else repo.variables
    if handler.command == "POST":
        kept[asked["key"]] = asked["value"]
        repo.descriptions[asked["key"]] = asked.get("description", "")
    elif handler.command == "DELETE":
        kept.pop(asked["key"], None)
    said = {}
    for key, value in kept.items():
        said[key] = {
            "key": key,
            "description": repo.descriptions.get(key, ""),
            "updatedAt": UPDATED,
        }
        if verb == "variables":
            said[key]["value"] = value
    handler.send(200, said)
