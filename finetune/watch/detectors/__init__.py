"""Detectors: each one way in which a training fails, with evidence of it step by step."""
