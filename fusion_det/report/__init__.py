"""From the results of an experiment to tables, figures, overlays and one page."""

from fusion_det.report.build import build_report
from fusion_det.report.compare import compare_reports
from fusion_det.report.quality_report import build_quality_report

__all__ = ["build_quality_report", "build_report", "compare_reports"]
