"""Runs of recipes: plan, forecast, stages, stage cache, outputs."""
