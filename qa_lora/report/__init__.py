"""What an evaluation found: kept on disk, read again, told in words; knows no torch."""

from qa_lora.report.files import (
    column_names,
    list_reports,
    load_report,
    read_report,
    save_report,
    to_table,
)
from qa_lora.report.found import (
    BASE,
    FACT_ACCURACY,
    LABELS,
    SHARE_LABELS,
    SHARES,
    TUNED,
    ExampleResult,
    Report,
    beside,
    headline,
    questions_fingerprint,
)

__all__ = [
    "BASE",
    "FACT_ACCURACY",
    "LABELS",
    "SHARES",
    "SHARE_LABELS",
    "TUNED",
    "ExampleResult",
    "Report",
    "beside",
    "column_names",
    "headline",
    "list_reports",
    "load_report",
    "questions_fingerprint",
    "read_report",
    "save_report",
    "to_table",
]
