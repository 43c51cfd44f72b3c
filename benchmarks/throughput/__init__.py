"""The parts of train_throughput.py: what is trained on, and the loops that are compared."""
