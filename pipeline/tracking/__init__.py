"""What runs say: kept on disk until MLflow's tracking store has it."""
