"""A method as somebody outside this project would write it."""

from __future__ import annotations

from fusion_det.fusion import FusionMethod, MethodCard, register_method

CARD = MethodCard("darkest", "Darkest", "Dark", "Darker of the two", "arithmetic", "luma", order=2000)


@register_method(CARD)
class Darkest(FusionMethod):
    card = CARD

    def fuse(self, ir, vi):
        return ir.minimum(vi)
