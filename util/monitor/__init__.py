"""Watches a run: non-finite values, diagnosis, validation, the first batch, disk space."""
