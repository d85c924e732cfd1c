"""Runs of any MLflow Project: where it lies and what it declares, its parameters, and one run of it."""
