"""Checkpoints: atomic files, safe reading, weights into networks, the training state, averages, saving."""
