"""One scorer a file; the file name is its name in recipes and on the command line."""
