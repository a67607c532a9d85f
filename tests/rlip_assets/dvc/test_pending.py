"""The order in which a lineage that was never made is made."""

from pathlib import Path

from rlip_assets.dvc.pending import critical_seconds
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.registry import build_registry


def test_the_r_tagger_goes_before_the_captions_that_wait_for_it(tmp_path: Path) -> None:
    """Labels need both, and a training takes longer than the captions of one bucket."""
    registry = build_registry(Params())
    seconds = critical_seconds(registry, tmp_path)
    captions = max(seconds[item.address] for item in registry.spec("captions").items)
    assert seconds["r_tagger"] > captions > seconds["pretrain@vg"]
