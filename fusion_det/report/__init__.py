"""From the results of an experiment to tables, figures, overlays and one page."""

from fusion_det.report.build import build_report
from fusion_det.report.compare import compare_reports

__all__ = ["build_report", "compare_reports"]
