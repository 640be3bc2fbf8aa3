"""Programs for one job each; their parts are in sub-packages."""
