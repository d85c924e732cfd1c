"""One run of the autoencoder: its configuration, data, model, training, quality and pictures."""
