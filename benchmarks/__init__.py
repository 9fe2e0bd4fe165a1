"""One file for each set of figures that the docs quote. Its last line is one JSON object."""
