"""``python -m fusion_det.cli``: the ``fusion-det`` command where it is not on the PATH."""

from fusion_det.cli import main

if __name__ == "__main__":
    main()
