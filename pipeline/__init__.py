"""Controlled experiment variations on MLflow, with conclusions that can be trusted."""
