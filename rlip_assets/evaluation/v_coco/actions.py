"""The actions of V-COCO and their roles, and how the verbs of a benchmark spread over them.

An action ("hit") has an agent and up to two roles ("instr", "obj"). Networks of the RLIP family predict one verb for each action
and role ("hit_instr", "hit_obj") and one for each action without roles ("walk").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlip_assets.datasets.sources.classes import official_table
from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.storage.errors import DataError

OFFICIAL_VERBS: tuple[str, ...] = tuple(row["name"] for row in official_table("v_coco")["verbs"])
"""The official 26 actions by role, such as "hit_instr", in the order of the RLIP family."""
ROLES = ("obj", "instr")
LEFT_OUT_ROLE = ("point", "instr")
"""The role that the 24-class means leave out: it has next to no annotations."""


@dataclass(frozen=True)
class Actions:
    """A actions with their roles, and the verbs that stand for them.

    Attributes:
        names: (A,) action names.
        roles: (A,) role names of each action, the agent left out, in the order of the annotations.
        verbs: for each verb its action and its role's place in `roles`, or -1 for an action without roles.
    """

    names: tuple[str, ...]
    roles: tuple[tuple[str, ...], ...]
    verbs: tuple[tuple[int, int], ...]

    @property
    def role_verbs(self) -> list[tuple[int, int, int]]:
        """(action, place of the role, verb) for every action and role, action by action."""
        return sorted((action, place, verb) for verb, (action, place) in enumerate(self.verbs) if place >= 0)

    def verbs_of(self, action: int) -> list[int]:
        """The verbs that stand for an action."""
        return [verb for verb, (own, _) in enumerate(self.verbs) if own == action]

    def role_name(self, action: int, place: int) -> str:
        """Such as "hit-instr"."""
        return f"{self.names[action]}-{self.roles[action][place]}"

    @property
    def left_out_verbs(self) -> list[int]:
        """Verbs that the 24-class means leave out: actions without roles, and "point"."""
        point = "-".join(LEFT_OUT_ROLE)
        return [
            v for v, (action, place) in enumerate(self.verbs) if place < 0 or self.role_name(action, place) == point
        ]


def actions_of_names(names: Sequence[str]) -> Actions:
    """Actions from verb names such as "hold_obj", "hit instr" or "walk"; actions in order of first appearance.

    Raises:
        DataError: an action that occurs both with and without a role, or a repeated name.
    """
    order: dict[str, list[str]] = {}
    verbs = []
    for name in names:
        action, role = name, ""
        for known in ROLES:
            if name.endswith((f"_{known}", f" {known}", f"-{known}")):
                action, role = name[: -len(known) - 1], known
        roles = order.setdefault(action, [])
        if role in roles or (roles and not role) or ("" in roles):
            raise DataError(
                f"V-COCO verb {name!r} repeats or contradicts an earlier one; name each action and role once"
            )
        roles.append(role)
        verbs.append((list(order).index(action), len(roles) - 1 if role else -1))
    return Actions(tuple(order), tuple(tuple(role for role in roles if role) for roles in order.values()), tuple(verbs))


def actions_of_vocabulary(vocabulary: Vocabulary) -> Actions:
    """Actions from `groups["actions"]` of the classes, which names the action and role of each verb in the same order.

    Raises:
        DataError: no such group, or one of another length.
    """
    names = vocabulary.groups.get("actions")
    if not isinstance(names, list) or len(names) != len(vocabulary.verbs):
        raise DataError(
            f"the {vocabulary.dataset} classes need groups.actions with {len(vocabulary.verbs)} official names such as 'hit_instr'"
        )
    return actions_of_names(names)
