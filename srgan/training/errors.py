"""Ways for training to fail that starting it again does not fix."""

from data_pipeline.platform.errors import JobFailedError


class DamagedCheckpointError(JobFailedError):
    """A checkpoint that is not what was written, or belongs to another network."""


class NonFiniteError(JobFailedError):
    """A loss term or a gradient is infinite or not a number."""
