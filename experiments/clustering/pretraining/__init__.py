"""Pretraining: an autoencoder, clusters of its embedding, and, with the manifold, guided epochs. No label is used."""
