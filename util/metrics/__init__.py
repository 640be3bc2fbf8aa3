"""Scores of pairs and distances between sets of images."""
