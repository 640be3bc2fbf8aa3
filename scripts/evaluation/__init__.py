"""Parts of evaluate.py, fcn_score.py and color_distributions.py."""
