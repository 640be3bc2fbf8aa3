"""What makes a run fast: precision, memory layout, compilation, CUDA graphs, batched inference."""
