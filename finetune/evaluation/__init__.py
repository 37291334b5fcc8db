"""Evaluation on held-out rows: generations, pair accuracy, implicit rewards."""
