"""fusion_det: which infrared/visible image fusion helps an object detector most, by how much, and is it real?"""

__version__ = "0.1.0"
