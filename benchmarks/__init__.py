"""One file per figure that the README quotes; the last line each prints is one JSON object."""
