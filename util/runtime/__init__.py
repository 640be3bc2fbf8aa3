"""The process and its machine: device, torchrun's processes, seeds, signals, the run's lock."""
