"""The Runs tab: find, look at, act on and compare runs."""

from qa_lora.ui.runs.events import wire_runs
from qa_lora.ui.runs.layout import RunsTab, build_runs

__all__ = ["RunsTab", "build_runs", "wire_runs"]
