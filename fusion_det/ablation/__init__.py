"""Variants of one fusion method, trained alike and compared: Table V and Fig. 13 of the S4Fusion paper."""
