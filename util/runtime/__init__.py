"""The process and its machine: device, torchrun's processes, seeds, signals, lock, kinds of files, plug-ins."""
