"""Where a run reports: console, CSV, TensorBoard, Weights & Biases, visdom."""
