"""Measuring saved images: from files to quality per image, resumable and in parallel. The formulas are in ``quality``."""
