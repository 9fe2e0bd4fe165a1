"""Shards -> batches: the node's cache, random access to patches, sampling, tf.data."""
