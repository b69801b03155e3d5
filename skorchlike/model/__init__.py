"""What a fit produced."""

from skorchlike.model.trained import TrainedModel

__all__ = ["TrainedModel"]
