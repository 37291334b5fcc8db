"""Comparing losses: several objectives on one data set, and conformance tests."""
