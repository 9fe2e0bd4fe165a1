"""A trained generator as files that other programs load, each with a model card."""
