"""What two processes do together; each writes what it saw into <its number>.json.

Both functions take a folder with settings.yaml.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from qa_lora import distributed
from qa_lora.config import TrainConfig
from qa_lora.errors import DataError, QALoRAError
from qa_lora.events import MemoryRanOut, Step
from qa_lora.gradient_sync import copy_from_first, sum_gradients
from qa_lora.packed import PackedModel
from qa_lora.training import train


def main(folder: Path) -> None:
    """Agree on results and errors, in all ways that there are."""
    me = distributed.index()
    seen: dict[str, Any] = {"index": me, "count": distributed.count()}
    seen["from first"] = distributed.from_first(lambda: f"said by {me}")
    seen["gather"] = distributed.gather(lambda: me * 10)
    seen["together"] = distributed.together(lambda: me)
    seen["any"] = distributed.any_of(me == 1, False, True)

    def refuse(who: int, error: Exception) -> Any:
        if me == who:
            raise error
        return "fine"

    seen["first fails"] = said(
        lambda: distributed.from_first(lambda: refuse(0, DataError("No rows.", "Add some.")))
    )
    seen["second fails"] = said(
        lambda: distributed.gather(lambda: refuse(1, DataError("No rows.", "Add some.")))
    )
    seen["second breaks"] = said(
        lambda: distributed.together(lambda: refuse(1, ZeroDivisionError("division by zero")))
    )
    seen["gradients"] = gradients(me)
    seen["a step fails"] = a_step_fails(folder, me)
    seen["memory runs out"] = memory_runs_out(folder, me)
    (folder / f"{me}.json").write_text(json.dumps(seen))


def stop_and_go_on(folder: Path) -> None:
    """Stop a training after three steps, and go on."""
    config = TrainConfig.from_yaml(folder / "settings.yaml")
    losses: list[float] = []

    def go(**options: Any) -> None:
        for event in train(config, folder / "parts", **options):
            if isinstance(event, Step):
                losses.append(event.loss)  # noqa: PERF401 - should_stop counts them meanwhile

    go(should_stop=lambda: len(losses) == 3)
    go(resume=True)
    (folder / f"{distributed.index()}.json").write_text(json.dumps(losses))


def said(work: Callable[[], Any]) -> str:
    try:
        return f"nothing: {work()}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def gradients(me: int) -> dict[str, Any]:
    one, two = (torch.nn.Parameter(torch.full((2,), float(me + 1))) for _ in range(2))
    copy_from_first([one, two])
    one.grad = torch.tensor([1.0, 2.0]) * (me + 1)
    if me == 1:
        two.grad = torch.tensor([5.0, 6.0])
    beside = sum_gradients([one, two], torch.tensor([float(me), 1.0]))
    assert one.grad is not None and two.grad is not None
    return {
        "weights": one.tolist(),
        "one": one.grad.tolist(),
        "two": two.grad.tolist(),
        "beside": beside.tolist(),
    }


def a_step_fails(folder: Path, me: int) -> list[str]:
    """The second process breaks in the third step, while the first one is well."""
    config = TrainConfig.from_yaml(folder / "settings.yaml")
    original, steps = PackedModel.loss_and_gradients, 0

    def nll(*arguments: Any, **options: Any) -> torch.Tensor:
        if me == 1 and steps == 2:
            raise ZeroDivisionError("division by zero")
        return original(*arguments, **options)

    PackedModel.loss_and_gradients = nll
    try:
        for event in train(config, folder / "run"):
            steps += isinstance(event, Step)
    except (QALoRAError, RuntimeError, ZeroDivisionError) as error:
        return [str(steps), type(error).__name__, str(error)]
    finally:
        PackedModel.loss_and_gradients = original
    return [str(steps), "no error", ""]


def memory_runs_out(folder: Path, me: int) -> dict[str, Any]:
    """The second process alone runs out of memory in its third step, with dropout in the adapter.

    One training goes through; another is stopped after the fifth step and goes on.
    """
    config = TrainConfig.from_yaml(folder / "settings.yaml")
    config = config.model_copy(update={"lora_dropout": 0.3, "max_steps": 8})
    original, losses, halved = PackedModel.loss_and_gradients, list[float](), list[int]()

    def limited(model: PackedModel, rows: Any, **options: Any) -> torch.Tensor:
        if me == 1 and len(losses) == 2 and len(rows) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return original(model, rows, **options)

    def go(name: str, **options: Any) -> None:
        for event in train(config, folder / name, **options):
            if isinstance(event, Step):
                losses.append(event.loss)
            elif isinstance(event, MemoryRanOut):
                halved.append(event.micro_rows)

    PackedModel.loss_and_gradients = limited
    go("whole")
    whole, losses = losses, []
    go("parts", should_stop=lambda: len(losses) == 5)
    PackedModel.loss_and_gradients = original
    go("parts", resume=True)
    adapters = (folder / name / "adapter/adapter_model.safetensors" for name in ("whole", "parts"))
    one, two = (path.read_bytes() for path in adapters)
    return {"steps": len(whole), "same": whole == losses and one == two, "halved": halved}
