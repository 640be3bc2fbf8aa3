"""Parts of pages.py, the index of all experiments."""
