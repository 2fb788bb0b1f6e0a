"""Who handed something in, and when: as the course system's naming says, completed from the roster."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

#: What `match` says of a hand-in that nobody of the roster sent.
UNMATCHED = "not in the roster"
NO_SUBMISSION = "no submission"


@dataclass(frozen=True)
class Sender:
    """One person behind a hand-in.

    Attributes:
        key: tells two persons of one name apart; empty where only the name is known.
        ids: every number or code that the source or the roster has for them.
        match: how the roster knew them (`id 123`), `UNMATCHED`, or empty without a roster.
        attempt: from 1; 0 where the source does not say.
        late: the source's own marker.
        sent_at: ISO 8601 with offset, where the source says.
    """

    key: str = ""
    ids: tuple[str, ...] = ()
    login: str = ""
    email: str = ""
    name: str = ""
    section: str = ""
    match: str = ""
    attempt: int = 0
    late: bool = False
    sent_at: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The person as plain data."""
        return asdict(self)


#: Nothing is known but the name that the hand-in itself has.
NOBODY = Sender()


def sender_from(data: Mapping[str, Any]) -> Sender:
    """The person that `as_dict` gave."""
    return Sender(**{**data, "ids": tuple(data["ids"])})


def plain_key(text: str) -> str:
    """An id, login or e-mail address, for comparison: without case, spaces around it and a decimal `.0`."""
    folded = unicodedata.normalize("NFC", text).strip().casefold()
    return re.sub(r"^(\d+)\.0+$", r"\1", folded)  # a spreadsheet's number


def name_keys(name: str) -> set[str]:
    """A person's name, for comparison: its words in every rotation, squeezed as Canvas squeezes them.

    Example:
        >>> name_keys("Lovelace, Ada") == name_keys("ada  lovelace") == {"adalovelace", "lovelaceada"}
        True
    """
    words = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", name).casefold())
    joined = [unicodedata.normalize("NFC", w.casefold()) for w in words]
    return {"".join(joined[k:] + joined[:k]) for k in range(len(joined))}
