"""Opinion studies: a plan, a server that collects ratings, and mean opinion scores."""
