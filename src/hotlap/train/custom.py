"""Parts that a project brings itself, for the training: `tasks.custom` imports them."""

from hotlap.tasks.custom import load_part

__all__ = ["load_part"]
