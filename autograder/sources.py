"""How course systems name what they export, and so who handed in which of an archive's files.

Canvas' bulk download is flat (its ContentZipper joins name, LATE, user id, file id and file name),
Gradescope's export has a folder per submission and a list of who sent it, Moodle's a folder or a prefix per
student. A regular expression with named groups reads any other naming. Only names are judged here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import PurePosixPath
from typing import Any

from autograder.assignment import UsageError
from autograder.naming import printable
from autograder.sender import Sender

Files = Mapping[PurePosixPath, bytes | None]
METADATA = "submission_metadata.yml"

_CANVAS = re.compile(
    r"(?:(?P<name>(?!LATE_).+?)_)?(?:(?P<late>LATE)_)?(?P<user>\d+|anon_[A-Za-z0-9]+)"
    r"_(?:(?P<file_id>\d+)_(?P<file>.+)|(?P<text>text|link)\.html(?:-\d+)?)"
)
_MOODLE = re.compile(
    r"(?P<name>.+)_(?P<id>\d+)_assignsubmission_(?P<kind>file|onlinetext)_?(?P<file>.*)", re.DOTALL
)
_GRADESCOPE = re.compile(r"submission_(?P<id>\d+)")
#: Canvas numbers a further file of the same name, as a browser numbers downloads: `hw1-1.ipynb`.
_COPY = re.compile(r"(?P<stem>.+?)-(?P<number>\d{1,3})")

_MISNAMED = "misnamed"

#: What each source's names look like, for the line that refuses another's.
SHAPES = {
    "canvas": "files named lastfirst_[LATE_]userid_fileid_name.ipynb",
    "gradescope": f"folders submission_ID and {METADATA}",
    "moodle": "folders or files named Full Name_ID_assignsubmission_file_",
}


@dataclass(frozen=True)
class Hand:
    """What one student handed in: the files, by their path as the student had it.

    Attributes:
        name: for the report's folder, before it is made safe.
        student: as the source names the person.
        place: where in the export it lies.
        error: why there is nothing to grade, where the naming already tells.
    """

    name: str
    student: str
    place: str
    sender: Sender
    files: dict[PurePosixPath, bytes | None] = field(default_factory=dict)
    error: str = ""


def hands(source: str, files: Files, *, where: str) -> list[Hand]:
    """Sort an export's files by who handed them in.

    Args:
        source: `canvas`, `gradescope`, `moodle` or a regular expression with the group `student`.
        files: content by path, without litter; None where it is too large.
        where: the export, for messages.

    Raises:
        UsageError: the export has not that source's shape; the line says what was expected and found.
    """
    trees = _without_top(files)
    read: Callable[[Files], list[Hand]] = _READERS.get(source) or (lambda f: _regex(source, f))
    found = read(trees)
    if all(h.sender.match == _MISNAMED for h in found):
        raise UsageError(_refusal(source, trees, where))
    return [replace(h, sender=replace(h.sender, match="")) for h in found]


def check_source(source: str) -> None:
    """Is it a source that there is?

    Raises:
        UsageError: neither a name nor a regular expression with the group that is needed.
    """
    if source == "files" or source in _READERS:
        return
    known = f"files, {', '.join(_READERS)} or a regular expression with a group (?P<student>...)"
    if "(?P<" not in source:
        raise UsageError(f"--from takes {known}; got {source!r}")
    try:
        groups = set(re.compile(source).groupindex)
    except re.error as error:
        raise UsageError(f"--from: the regular expression {source!r} is not valid: {error}") from None
    allowed = {"student", "id", "login", "email", "attempt", "late"}
    if "student" not in groups or groups - allowed:
        said = ", ".join(sorted(groups)) or "none"
        raise UsageError(
            f"--from: a regular expression has the group student and may have {', '.join(sorted(allowed))}; "
            f"this one has {said}"
        )


def _without_top(files: Files) -> Files:
    """Without the one folder around everything that an export, or who packs it again, puts there."""
    tops = {path.parts[0] for path in files}
    if len(tops) != 1 or any(len(path.parts) == 1 for path in files):
        return files
    top = next(iter(tops))
    if _MOODLE.fullmatch(top) or _GRADESCOPE.fullmatch(top):
        return files
    return _without_top({PurePosixPath(*path.parts[1:]): data for path, data in files.items()})


def _misnamed(path: PurePosixPath) -> Hand:
    student = printable(path.parts[0].partition("_")[0]) or "unnamed"
    return Hand(
        path.stem,
        student,
        str(path),
        Sender(match=_MISNAMED),
        {},
        "is not named as the export names hand-ins",
    )


def _canvas(files: Files) -> list[Hand]:
    by_user: dict[str, list[tuple[re.Match[str], PurePosixPath, bytes | None]]] = {}
    found = []
    for path, data in sorted(files.items()):
        match = _CANVAS.fullmatch(path.name) if len(path.parts) == 1 else None
        if match is None:
            found.append(_misnamed(path))
        else:
            by_user.setdefault(match["user"], []).append((match, path, data))
    for user, mine in by_user.items():
        name = next((m["name"] for m, _, _ in mine if m["name"]), "") or user
        late = any(m["late"] for m, _, _ in mine)
        sender = Sender(key=f"canvas:{user}", ids=(user,), name=name, late=late)
        uploads = [(m, path, data) for m, path, data in mine if m["file"]]
        if not uploads:
            kind = "text" if mine[0][0]["text"] == "text" else "a link"
            error = f"{kind} was handed in, no notebook"
            found.append(Hand(f"{name}_{user}", name, str(mine[0][1]), sender, {}, error))
            continue
        for attempt, own in _attempts(uploads).items():
            place = ", ".join(str(path) for _, path, _ in own.values())
            contents = {PurePosixPath(file): data for file, (_, _, data) in own.items()}
            numbered = replace(sender, attempt=attempt)
            found.append(Hand(f"{name}_{user}", name, place, numbered, contents))
    return found


def _attempts(uploads: list[Any]) -> dict[int, dict[str, Any]]:
    """One student's files by attempt, named without the number that a further file of the same name has.

    Several notebooks of one name are several attempts; each takes what else there was by then.
    """
    copies: dict[str, dict[int, Any]] = {}
    for match, path, data in uploads:
        name = PurePosixPath(match["file"])
        copy = _COPY.fullmatch(name.stem)
        stem, number = (copy["stem"], int(copy["number"])) if copy else (name.stem, 0)
        copies.setdefault(stem + name.suffix, {})[number] = (match, path, data)
    work = [of for name, of in copies.items() if name.lower().endswith(".ipynb")]
    work = work or [of for name, of in copies.items() if name.lower().endswith(".py")]
    numbers = sorted({n for of in work if len(of) > 1 for n in of})
    last = max((n for of in work for n in of), default=0)
    return {
        number + 1: {
            name: of[max((n for n in of if n <= number), default=min(of))] for name, of in copies.items()
        }
        for number in numbers or [last]
    }


def _moodle(files: Files) -> list[Hand]:
    found: dict[tuple[str, str], Hand] = {}
    stray = []
    for path, data in sorted(files.items()):
        at = next((k for k, part in enumerate(path.parts[:2]) if _MOODLE.fullmatch(part)), None)
        match = _MOODLE.fullmatch(path.parts[at]) if at is not None else None
        if match is None or at is None:
            stray.append(_misnamed(path))
            continue
        name, number = printable(match["name"]), match["id"]
        text = f"{name}_{number}"
        new = Hand(text, name, path.parts[at], Sender(key=f"moodle:{number}", ids=(number,), name=name))
        hand = found.setdefault((name, number), new)
        if match["kind"] == "file":
            inside = PurePosixPath(match["file"]) if match["file"] else PurePosixPath(*path.parts[at + 1 :])
            hand.files[inside] = data
    wrong = "text was handed in, no notebook"
    return [*(h if h.files else replace(h, error=wrong) for h in found.values()), *stray]


def _gradescope(files: Files) -> list[Hand]:
    data = files.get(PurePosixPath(METADATA))
    folders: dict[str, dict[PurePosixPath, bytes | None]] = {}
    for path, content in files.items():
        if len(path.parts) > 1:
            folders.setdefault(path.parts[0], {})[PurePosixPath(*path.parts[1:])] = content
    if data is None or not any(_GRADESCOPE.fullmatch(name) for name in folders):
        return []
    found = []
    listed = _metadata(data)
    for folder, facts in listed.items():
        sent, attempt = facts["sent_at"], facts["attempt"]
        error = "" if folder in folders else "its folder is not in the export"
        for person in facts["submitters"]:
            key = person["sid"] or person["email"] or f"{folder}/{person['name']}"
            sender = Sender(
                key=f"gradescope:{key.casefold()}",
                ids=(person["sid"],) if person["sid"] else (),
                email=person["email"],
                name=person["name"],
                attempt=attempt,
                sent_at=sent,
            )
            student = person["name"] or person["email"] or person["sid"] or folder
            found.append(Hand(f"{student}_{folder}", student, folder, sender, folders.get(folder, {}), error))
    for folder in sorted(set(folders) - set(listed)):
        text = f"is not in {METADATA}: nobody is known to have sent it"
        found.append(Hand(folder, folder, folder, Sender(key=f"gradescope:{folder}"), {}, text))
    return found


def _metadata(data: bytes) -> dict[str, Any]:
    """Who sent which folder and when, from Gradescope's list."""
    import yaml

    try:
        table = yaml.load(data, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        line = " ".join(str(error).split())[:160]
        raise UsageError(f"{METADATA} cannot be read: {line}; download the export again") from None
    if not isinstance(table, dict):
        raise UsageError(f"{METADATA} lists no submissions: download the export again")
    found = {}
    for folder, facts in table.items():
        if not isinstance(facts, dict) or not isinstance(facts.get(":submitters"), list):
            raise UsageError(f"{METADATA}: {printable(str(folder))} has no :submitters")
        people = [
            {k: _text(p.get(f":{k}")) for k in ("name", "sid", "email")}
            for p in facts[":submitters"]
            if isinstance(p, dict)
        ]
        history = facts.get(":history")
        found[str(folder)] = {
            "submitters": people or [{"name": "", "sid": "", "email": ""}],
            "sent_at": _time(facts.get(":created_at")),
            "attempt": 1 + (len(history) if isinstance(history, list) else 0),
        }
    return found


def _text(value: Any) -> str:
    return "" if value is None else printable(str(value))


def _time(value: Any) -> str:
    """ISO 8601 with an offset, of what YAML makes of Gradescope's times; UTC where there is none."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip().replace(" Z", "+00:00"))
        except ValueError:
            return ""
    if not isinstance(value, datetime):
        return value.isoformat() + "T00:00:00+00:00" if isinstance(value, date) else ""
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()


def _regex(source: str, files: Files) -> list[Hand]:
    pattern = re.compile(source)
    found = []
    for path, data in sorted(files.items()):
        match = pattern.fullmatch(str(path))
        if match is None or not match["student"]:
            found.append(_misnamed(path))
            continue
        said = {key: printable(value or "") for key, value in match.groupdict().items()}
        if said.get("attempt") and not said["attempt"].isdecimal():
            raise UsageError(f"--from: in {path} the group attempt is {said['attempt']!r}, and no number")
        sender = Sender(
            key=f"student:{said['student'].casefold()}",
            ids=(said["id"],) if said.get("id") else (),
            login=said.get("login", said["student"]),
            email=said.get("email", ""),
            name=said["student"],
            attempt=int(said.get("attempt") or 0),
            late=bool(said.get("late")),
        )
        name = "_".join(p for p in (said["student"], said.get("attempt", "")) if p)
        found.append(Hand(name, said["student"], str(path), sender, {PurePosixPath(path.name): data}))
    return found


_READERS: dict[str, Callable[[Files], list[Hand]]] = {
    "canvas": _canvas,
    "gradescope": _gradescope,
    "moodle": _moodle,
}


def _refusal(source: str, files: Files, where: str) -> str:
    """One line: what the source's exports hold, and what this one does."""
    expected = SHAPES.get(source, f"paths that match {source!r} as a whole")
    first = min(files, key=lambda path: (len(path.parts), str(path)), default=None)
    seen = f"{len(files)} files, such as {printable(str(first))!r}" if first else "no files"
    others = ", ".join(f"--from {name}" for name in _fitting(files) if name != source)
    return f"{where}: expected {expected}, found {seen}" + (f"; it looks like {others}" if others else "")


def _fitting(files: Files) -> Iterator[str]:
    for name, read in _READERS.items():
        try:
            if any(h.sender.match != _MISNAMED for h in read(files)):
                yield name
        except UsageError:
            continue
