"""Scorers, one a file: the file name is the name in recipes and on the command line."""
