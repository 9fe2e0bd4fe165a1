"""What `ray job submit` runs: read the arguments, call one function, exit with its code."""
