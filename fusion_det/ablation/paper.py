"""Table V of the S4Fusion paper (arXiv:2405.20881): its ablations, as data."""

from __future__ import annotations

from fusion_det.assessment.published import PublishedRow, PublishedTable

TABLE_V = PublishedTable(
    number="V",
    dataset="msrs",
    title="MSRS",
    images="the 361 test pairs of MSRS, fused by networks that were trained for 800 epochs each",
    saving="lossless",
    rows=(
        PublishedRow("Exp.1", None, (11.520, 3.782, 0.843, 0.614, 35.103, 0.231)),
        PublishedRow("Exp.2", None, (11.669, 3.730, 0.919, 0.631, 34.973, 0.242)),
        PublishedRow("Exp.3", None, (11.679, 3.621, 0.998, 0.679, 35.212, 0.244)),
        PublishedRow("Exp.4", None, (11.622, 3.539, 0.663, 0.472, 34.918, 0.233)),
        PublishedRow("Exp.5", None, (11.471, 3.744, 0.784, 0.671, 34.662, 0.240)),
        PublishedRow("Exp.6", None, (11.493, 3.783, 0.851, 0.637, 35.211, 0.232)),
        PublishedRow("Exp.7", None, (11.036, 3.776, 0.970, 0.652, 35.012, 0.241)),
        PublishedRow("Exp.8", None, (11.685, 3.797, 1.002, 0.681, 35.317, 0.247)),
    ),
    unclear=(("Exp.4", "MUSIQ"),),
)
"""Values in the order of :data:`fusion_det.assessment.published.COLUMNS`; the paper prints AG first and SF fourth."""

NOISE = (
    "Table I prints the whole method on the same images too, as SF 11.680, AG 3.793, VIF 1.002, Qabf 0.678 where Table V has "
    "11.685, 3.797, 1.002 and 0.681: printed differences of that size say nothing. The paper gives no spread over trainings."
)
"""What two printings of one figure tell of the printed differences."""
