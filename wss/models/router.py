"""How routers choose experts from logits, and what of it is known of each preset.

A router turns logits into scores, by softmax over the experts or by a sigmoid of each. It may add a correction bias to
the scores, for the choice alone. It may rank groups of neighbouring experts first and keep the best groups: by the sum
of a group's two best scores where scores are sigmoids (DeepSeek-V3), by its best score where they are a softmax
(DeepSeek-V2). Of what is left it takes the top k, of equal ones the lower expert.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from wss.models.presets import MODELS
from wss.models.shape import ModelShape

Score = Literal["softmax", "sigmoid"]


@dataclass(frozen=True, kw_only=True)
class Router:
    """How one model's router chooses.

    Attributes
    ----------
    score
        What makes scores of logits.
    groups, topk_groups
        Groups of neighbouring experts, and how many of them a token may use.
    needs_bias
        Whether a correction bias, a weight of the checkpoint, is added to the scores.

    Raises
    ------
    ValueError
        If a token may use no group, or more than there are.
    """

    score: Score = "softmax"
    groups: int = 1
    topk_groups: int = 1
    needs_bias: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.topk_groups <= self.groups:
            raise ValueError(f"topk_groups {self.topk_groups} of {self.groups} groups; give 1 to {self.groups}")

    def choose(
        self, logits: npt.NDArray[Any], top_k: int, bias: npt.NDArray[np.float64] | None = None
    ) -> npt.NDArray[np.int64]:
        """Return the experts that are chosen, best first, [layers, tokens, top_k].

        Parameters
        ----------
        logits, bias
            [layers, tokens, experts]; [layers, experts], added to the scores.

        Raises
        ------
        ValueError
            If the groups do not divide the experts, or those that a token may use have fewer than top_k.
        """
        layers, tokens, experts = logits.shape
        if experts % self.groups:
            raise ValueError(f"{self.groups} groups do not divide {experts} experts; give groups of one size")
        size = experts // self.groups
        if self.topk_groups * size < top_k:
            raise ValueError(
                f"{self.topk_groups} groups have {self.topk_groups * size} experts, fewer than top-{top_k}"
            )
        if bias is None and self.topk_groups == self.groups:
            score = logits  # scores rank as logits do
        else:
            score = self._scores(logits.astype(np.float64))
            score = score if bias is None else score + bias[:, None]
        if self.topk_groups < self.groups:
            grouped = score.reshape(layers, tokens, self.groups, size)
            best = min(2 if self.score == "sigmoid" else 1, size)
            rank = np.sort(grouped, axis=3)[..., -best:].sum(axis=3)
            out = np.argsort(-rank, axis=2, kind="stable")[..., self.topk_groups :]
            grouped = grouped.copy()
            np.put_along_axis(grouped, out[..., None], -np.inf, axis=2)
            score = grouped.reshape(layers, tokens, experts)
        return np.argsort(-score, axis=2, kind="stable")[..., :top_k].astype(np.int64)

    def _scores(self, logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        if self.score == "sigmoid":
            small = np.exp(-np.abs(logits))  # never overflows
            return np.where(logits >= 0, 1.0, small) / (1.0 + small)
        weight = np.exp(logits - logits.max(axis=2, keepdims=True))
        scores: npt.NDArray[np.float64] = weight / weight.sum(axis=2, keepdims=True)
        return scores


ROUTERS: dict[str, Router] = {
    # config.json: scoring_func sigmoid, topk_method noaux_tc (the bias), n_group 8, topk_group 4
    "deepseek_v3": Router(score="sigmoid", groups=8, topk_groups=4, needs_bias=True),
    # scoring_func sigmoid, topk_method noaux_tc, n_group 1
    "kimi_k2": Router(score="sigmoid", needs_bias=True),
    # the top 4 of the logits, then a softmax of those
    "gpt_oss_20b": Router(),
    # the top 1 of the logits, then its sigmoid
    "llama4_maverick": Router(score="sigmoid"),
    "qwen3_235b": Router(),
}


def router_of(model: ModelShape) -> Router | None:
    """Return how *model*'s router chooses, None where it is not known."""
    return next((router for name, router in ROUTERS.items() if MODELS[name].name == model.name), None)
