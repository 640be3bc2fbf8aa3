"""Fetches published datasets and unpacks their archives."""
