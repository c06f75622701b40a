"""What a fusion costs: parameters, operations, time and memory (Table VII of the S4Fusion paper).

Parameters and operations are counted without computing anything (:mod:`.parameters`, :mod:`.flops`); time and memory are
measured in a fresh process for each method (:mod:`.launch`, :mod:`.worker`). Importing this package does not import torch.
"""
