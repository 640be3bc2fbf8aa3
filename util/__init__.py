"""What serves a run: runtime, checkpoints, visualizer, pages. Imports none of models, data and options."""
