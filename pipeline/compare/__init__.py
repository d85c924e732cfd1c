"""What runs show: read from MLflow, judged, and reported."""
