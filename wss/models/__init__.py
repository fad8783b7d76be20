"""The served MoE models: their shapes, and presets by name."""

from wss.models.precision import AnyPrecision, Precision, PrecisionName
from wss.models.presets import MODELS
from wss.models.shape import Attention, ModelShape

__all__ = ["MODELS", "AnyPrecision", "Attention", "ModelShape", "Precision", "PrecisionName"]
