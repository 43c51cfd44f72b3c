"""A copy of a run elsewhere while it trains, for machines whose disk does not last."""
