"""Training: a driver (run), the loop of each worker (loop), and their parts."""
