"""The selective scan (Mamba) and scans over feature maps, differentiable, on whatever device there is."""

from fusion_det.fusion.ssm.layers import project
from fusion_det.fusion.ssm.scan_2d import scan_2d
from fusion_det.fusion.ssm.selective_scan import BACKEND_ENV, Backend, choose_backend, selective_scan
from fusion_det.fusion.ssm.stream import ConvolutionStream, ScanStream, can_stream

__all__ = [
    "BACKEND_ENV",
    "Backend",
    "ConvolutionStream",
    "ScanStream",
    "can_stream",
    "choose_backend",
    "project",
    "scan_2d",
    "selective_scan",
]
