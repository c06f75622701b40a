"""The fusion methods, one module or folder each, named as in the paper.

A method's module holds its card and its class (or factory), marked with :func:`~fusion_det.fusion.registry.register_method`.
It imports torch only inside functions, or in the other files of its folder, so that listing cards stays quick.
"""
