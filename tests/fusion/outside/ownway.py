"""A method whose authors published a procedure of their own, which mirrors the visible image."""

from __future__ import annotations

from fusion_det.fusion import FusionMethod, MethodCard, register_method

CARD = MethodCard("ownway", "OwnWay", "Own", "A method with a script", "cnn", "luma", order=2000, official="mirrored")


@register_method(CARD)
class OwnWay(FusionMethod):
    card = CARD

    def fuse(self, ir, vi):
        return vi

    def fuse_officially(self, ir, vi):
        return vi[:, ::-1]
