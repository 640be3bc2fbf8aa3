"""The options of the command line: one row each, where it is added."""
