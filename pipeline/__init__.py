"""Controlled experiment variations on MLflow, with conclusions that can be trusted."""

__version__ = "0.2.0"  # the only place: pyproject.toml reads it, so that a checkout knows it, too
