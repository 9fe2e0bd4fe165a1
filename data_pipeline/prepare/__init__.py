"""Photographs -> verified HR/LR patch shards: sources, the fan-out on Ray, resume, verify."""
