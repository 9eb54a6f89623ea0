"""Pipelines: components, image pins, compilation, submission, cache prediction, replay and recurring runs."""
