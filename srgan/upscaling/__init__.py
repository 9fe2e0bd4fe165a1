"""Upscaling of people's pictures: a folder or prefix of them -> another one."""
