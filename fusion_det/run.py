"""``python -m fusion_det.run``: the main job. The same as ``fusion-det run``."""

from __future__ import annotations

import sys

from fusion_det.cli import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])
