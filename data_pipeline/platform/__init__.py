"""What has nothing to do with images: storage, the node, the cluster, progress, errors."""
