"""Objectives, one a file, in a folder for each kind of batch: pairs, answers, lists, tokens."""
