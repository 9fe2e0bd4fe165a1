"""Photographs -> verified HR/LR patch shards -> batches. Knows nothing of networks."""
