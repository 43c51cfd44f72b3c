"""The parts of generation.py: what is asked, and the ways to answer that are compared."""
