"""What a training will need, before it starts: memory by parts, and time."""

from qa_lora.estimate.lengths import RowLengths, count_rows, row_lengths, standing_for_all
from qa_lora.estimate.needs import Estimate, Part, Room, estimate, estimate_config, this_room
from qa_lora.estimate.shapes import FLAN_T5, ModelShape, model_shape
from qa_lora.estimate.speed import PastRun, flops, past_runs

__all__ = [
    "FLAN_T5",
    "Estimate",
    "ModelShape",
    "Part",
    "PastRun",
    "Room",
    "RowLengths",
    "count_rows",
    "estimate",
    "estimate_config",
    "flops",
    "model_shape",
    "past_runs",
    "row_lengths",
    "standing_for_all",
    "this_room",
]
