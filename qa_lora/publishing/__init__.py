"""An adapter to the Hub: look at all that would be uploaded, then upload it in one commit."""

from qa_lora.publishing.plan import Plan, PlannedFile, check, plan
from qa_lora.publishing.refusals import explain, whoami
from qa_lora.publishing.upload import Published, upload

__all__ = ["Plan", "PlannedFile", "Published", "check", "explain", "plan", "upload", "whoami"]
