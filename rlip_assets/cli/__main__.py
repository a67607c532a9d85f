"""`python -m rlip_assets.cli` is `rlip`."""

from rlip_assets.cli import main

if __name__ == "__main__":
    main()
