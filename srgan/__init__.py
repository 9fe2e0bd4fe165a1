"""SRGAN: the networks and everything that happens to them."""
