"""What the S4Fusion paper prints in its Tables I to IV, and SMC-Mamba's on MSRS, as data, and the saving habits they carry.

Read from the text of the paper's pages. Two entries of Table II have lost their decimal point there and are restored by the
column's range (27 to 55): ``unclear`` names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fusion_det.assessment.images import Saving

COLUMNS = ("SF", "AG", "VIF", "Qabf", "MUSIQ", "TOPIQ")


@dataclass(frozen=True)
class PublishedRow:
    """A method's line. values: in the order of the table's columns. year: None for the paper's own."""

    label: str
    year: int | None
    values: tuple[float, ...]


@dataclass(frozen=True)
class PublishedTable:
    """A printed table of quality.

    number: roman. dataset: id. images: what is known of the images behind it. saving: how the paper's fused images were saved,
    by recomputation (metrics/spec §5). unclear: (label, column) of entries that the text does not show beyond doubt.
    printed_in: if not in the S4Fusion paper. conventions: what is known of them, where they are not those of profile "paper".
    """

    number: str
    dataset: str
    title: str
    images: str
    saving: Saving
    rows: tuple[PublishedRow, ...]
    unclear: tuple[tuple[str, str], ...] = ()
    columns: tuple[str, ...] = COLUMNS
    printed_in: str = ""
    conventions: str = ""

    @property
    def name(self) -> str:
        return self.printed_in or f"S4Fusion paper, Table {self.number}"


def _rows(text: str) -> tuple[PublishedRow, ...]:
    rows = []
    for line in text.strip().splitlines():
        label, year, *numbers = line.split()
        rows.append(PublishedRow(label, int(year) if year.isdigit() else None, tuple(map(float, numbers))))
    return tuple(rows)


TABLES: Mapping[str, PublishedTable] = MappingProxyType(
    {
        "I": PublishedTable(
            number="I",
            dataset="msrs",
            title="MSRS",
            images="the 361 test pairs of MSRS, as the agreement with other papers suggests",
            saving="lossless",
            rows=_rows("""
                DeFusion   2022  8.606 2.781 0.763 0.530 33.033 0.214
                U2Fusion   2022  6.211 1.983 0.520 0.289 32.799 0.225
                SemLA      2023  6.339 2.240 0.610 0.290 28.287 0.188
                DDFM       2023  7.388 2.522 0.743 0.474 32.747 0.217
                MambaDFuse 2024 11.018 3.632 0.985 0.652 35.958 0.231
                IRFS       2023  9.888 3.155 0.735 0.477 36.441 0.224
                CrossFuse  2024  9.604 3.002 0.835 0.556 36.843 0.231
                EMMA       2024 11.559 3.788 0.974 0.643 35.970 0.232
                MAEFuse    2025  9.569 3.461 0.747 0.502 29.275 0.227
                S4Fusion   -    11.680 3.793 1.002 0.678 35.317 0.247
            """),
        ),
        "II": PublishedTable(
            number="II",
            dataset="roadscene",
            title="RoadScene",
            images="the 67 test names published with S4Fusion",
            saving="jpeg-75",
            rows=_rows("""
                DeFusion   2022  8.817 3.552 0.506 0.368 40.087 0.228
                U2Fusion   2022 12.410 5.048 0.536 0.489 42.423 0.249
                SemLA      2023 13.863 4.256 0.488 0.301 33.729 0.200
                DDFM       2023 11.412 4.658 0.095 0.147 43.881 0.279
                MambaDFuse 2024 13.623 5.279 0.625 0.508 42.611 0.241
                IRFS       2023 10.207 3.925 0.569 0.424 41.025 0.251
                CrossFuse  2024 15.483 6.053 0.579 0.358 45.354 0.292
                EMMA       2024 15.816 6.138 0.624 0.443 40.658 0.236
                MAEFuse    2025 12.226 5.206 0.563 0.461 38.052 0.222
                S4Fusion   -    16.156 6.239 0.789 0.611 44.057 0.263
            """),
            unclear=(("U2Fusion", "MUSIQ"), ("MambaDFuse", "MUSIQ")),
        ),
        "III": PublishedTable(
            number="III",
            dataset="tno",
            title="TNO",
            images="21 pairs of TNO (IR1 to IR21 of the DenseFuse line of work)",
            saving="lossless",
            rows=_rows("""
                DeFusion   2022  5.652 2.298 0.509 0.332 26.830 0.213
                U2Fusion   2022  8.024 3.363 0.529 0.427 31.554 0.226
                SemLA      2023  8.415 2.737 0.435 0.258 27.743 0.207
                DDFM       2023  7.852 3.183 0.258 0.227 28.872 0.201
                MambaDFuse 2024  8.875 3.516 0.691 0.483 27.891 0.214
                IRFS       2023  8.347 2.950 0.563 0.416 30.501 0.223
                CrossFuse  2024  9.973 3.710 0.752 0.454 30.898 0.251
                EMMA       2024 10.132 4.202 0.690 0.432 28.694 0.213
                MAEFuse    2025  7.880 3.534 0.528 0.392 27.239 0.195
                S4Fusion   -    11.407 4.288 0.803 0.587 31.464 0.302
            """),
        ),
        "IV": PublishedTable(
            number="IV",
            dataset="m3fd_fusion",
            title="M3FD",
            images="probably the 90 names of M3FD's fusion set published with S4Fusion; the paper does not say",
            saving="lossless",
            rows=_rows("""
                DeFusion   2022  7.752 2.789 0.529 0.337 51.123 0.325
                U2Fusion   2022 11.211 4.259 0.606 0.532 50.105 0.331
                SemLA      2023  7.370 2.748 0.377 0.179 35.542 0.251
                DDFM       2023  9.583 3.381 0.491 0.384 50.862 0.336
                MambaDFuse 2024 12.445 4.502 0.668 0.534 51.330 0.334
                IRFS       2023 10.920 3.684 0.621 0.503 52.439 0.357
                CrossFuse  2024 12.210 4.181 0.740 0.575 54.689 0.376
                EMMA       2024 15.882 5.719 0.751 0.592 52.522 0.345
                MAEFuse    2025  9.881 3.994 0.515 0.382 42.852 0.287
                S4Fusion   -    15.363 5.312 0.910 0.661 53.783 0.377
            """),
        ),
        "SMC-Mamba": PublishedTable(
            number="",
            dataset="msrs",
            title="MSRS",
            images="MSRS, presumably its 361 test pairs",
            saving="lossless",
            rows=_rows("""
                CDDFuse     2023 3.657 12.083 0.819 0.548 0.918
                FusionMamba 2024 4.121 10.955 0.974 0.652 1.022
                TC-MoA      2024 3.251  9.370 0.811 0.565 1.030
                SMC-Mamba   -    4.490 12.211 0.991 0.658 1.044
            """),
            columns=("MI", "SF", "VIF", "Qabf", "MS_SSIM"),
            printed_in="SMC-Mamba (AAAI 2026)",
            conventions="By which conventions the printed figures were computed is not known. Printed is half of MS_SSIM (0.522 "
            "for SMC-Mamba), doubled here, since ours is the sum over both sources. Our SMC-Mamba is an unofficial "
            "re-implementation, learnt from other pairs.",
        ),
    }
)
