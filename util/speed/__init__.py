"""Faster runs: precision, memory layout, compilation, CUDA graphs, batched inference."""
