"""Tables and lists that the parameters of labels name: synonyms, and images that receive no labels."""

from __future__ import annotations

from collections.abc import Iterator

from rlip_assets.doctor.examination import Examination
from rlip_assets.doctor.finding import Finding, fault
from rlip_assets.labelling.synonyms import read_synonyms
from rlip_assets.labelling.tagging.stage import read_excluded
from rlip_assets.storage.errors import RlipError


def check(case: Examination) -> Iterator[Finding]:
    """Read each of them."""
    if case.params is None:
        return
    tables = case.params.candidates.synonyms if case.read.usable("candidates") else ()
    for table in tables:
        try:
            read_synonyms([table])
        except RlipError as error:
            yield fault(f"candidates.synonyms {table}", error)
    for file in case.params.tagging.exclude if case.read.usable("tagging") else ():
        try:
            read_excluded([file])
        except RlipError as error:
            yield fault(f"tagging.exclude {file}", error)
