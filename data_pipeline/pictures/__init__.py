"""People's pictures: read with their metadata, written band by band. libvips does the codecs."""
