"""The models whose expert layers are served: their shapes and the known ones by name."""

from wss.models.presets import MODELS
from wss.models.shape import ModelShape, Precision

__all__ = ["MODELS", "ModelShape", "Precision"]
