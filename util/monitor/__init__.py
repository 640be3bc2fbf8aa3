"""Watches a run: non-finite values, diagnosis, validation, forecasts of disk and memory."""
