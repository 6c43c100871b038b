"""Responses: meanings of a law's value, and refusal of laws that do not describe what the runs measure."""

from __future__ import annotations

from typing import Any

from bayescale.errors import InputError

RESPONSES = {
    "loss": "a loss, or another positive response for which lower is better; for a score its odds against being right",
    "odds": "the odds against being right, (ceiling - score) / (score - chance); only for data with a score",
    "quantity": "the response itself, which is positive; not for data with a score",
}
"""Meanings of a law's value."""


def refuse_response(law: Any, *, scored: bool, valued: bool = False) -> None:
    """Refuse a law of scores for runs with a loss, and a law of another quantity for runs with a score.

    Args:
        law: The law.
        scored: Whether the runs have a score.
        valued: Whether the runs have a value of any sign, such as a reward.

    Raises:
        InputError: With what the law describes, and how to read the runs for this law.
    """
    describes = law.info.describes
    if valued and describes != "loss":
        what = "a score through the odds against being right" if describes == "odds" else law.response
        raise InputError(
            f"{law.name} describes {what}, and these runs have values of any sign. Choose a law of losses, law= "
            "(--law), or take the column for what this law describes when reading, loss= or score= (--loss, --score)."
        )
    if describes == "odds" and not scored:
        raise InputError(
            f"{law.name} describes a score through the odds against being right, and these runs have a loss. Choose a "
            "law of losses, law= (--law), or name the column of the score when reading, score= (--score)."
        )
    if describes == "quantity" and scored:
        raise InputError(
            f"{law.name} describes {law.response} and not the odds of a score, and these runs have a score. Choose a "
            "law of scores, e.g. law='logistic' (--law logistic), or take the column as it is when reading, loss= "
            "(--loss)."
        )
