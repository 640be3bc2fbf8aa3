"""What is saved: atomic files, safe reading, weights into networks, the training state."""
