"""Read the answers that the page of scripts/real_or_fake.py writes, and summarise them."""

from __future__ import annotations

import argparse
import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from util.checkpoint.atomic_files import write_whole
from util.errors import UserError, printable

FORMAT = "real_or_fake 1"
SIDES = ("first", "second")  # left and right, or upper and lower
MOST_LOST = 0.1  # share of rounds with a wrong display time, above which a session is left out
LEAST_VIGILANT = 0.75  # share of scrambled fakes that a session must find
EXAMPLES = 5  # pairs that are named as the most and as the least convincing


class Answer(NamedTuple):
    """One round: its pair, its use, and whether the fake was taken for the real image (None: not known)."""

    pair: str
    use: str  # practice, test, vigilance
    fooled: bool | None
    shown: tuple[float, ...]  # ms that the images were visible


class Session(NamedTuple):
    """The answers of one participant."""

    file: Path
    study: dict
    participant: str
    answers: list[Answer]


def summarise(args: argparse.Namespace) -> None:
    """Read answers, print the table, write the JSON file."""
    if not args.tolerance >= 0:
        raise UserError(f"--tolerance {args.tolerance}: it must be 0 or more.")
    studies: dict[str, list[Session]] = {}
    for session in without_copies(read_session(file) for file in find_answers(args.answers)):
        studies.setdefault(json.dumps(session.study), []).append(session)
    if len(studies) > 1 and not args.mixed:
        names = "\n".join(
            f"  {sessions[0].study['id']}  {printable(sessions[0].study['name'])}, {len(sessions)} sessions"
            for sessions in studies.values()
        )
        raise UserError(f"these are answers to {len(studies)} pages; --mixed prints one line per page:\n{names}")
    found = [summary_of(sessions, args.tolerance) for sessions in studies.values()]
    found.sort(key=lambda study: (study["name"], study["id"]))
    print_table(found)
    if args.json:
        write_whole(args.json, json.dumps({"studies": found}, indent=1) + "\n")


# ---- files of answers ----


def find_answers(paths: list[Path]) -> list[Path]:
    """List the named files, and the *.json in folders that hold answers; UserError if there are none."""
    files = []
    for path in paths:
        inside = [file for file in sorted(path.glob("*.json")) if holds_answers(file)] if path.is_dir() else [path]
        if not inside:
            raise UserError(f"no answers in {printable(path)}: name the *.json that participants have sent back.")
        files += inside
    return list(dict.fromkeys(files))


def holds_answers(file: Path) -> bool:
    """Return False for valid JSON of another kind, with a message; a damaged file counts, so that reading fails."""
    try:
        data = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return True
    if isinstance(data, dict) and "format" in data:
        return True
    print(f"{printable(file)} holds no answers: left out")
    return False


def without_copies(sessions: Iterable[Session]) -> list[Session]:
    """Return the sessions without copies of a file; UserError if one participant has different answers."""
    known: dict[tuple, Session] = {}
    for session in sessions:
        first = known.setdefault((session.study["id"], session.participant), session)
        if first is not session:
            if first[1:] != session[1:]:
                raise UserError(
                    f"{printable(first.file)} and {printable(session.file)} are different answers of one participant, "
                    f"{session.participant}: keep the one that is genuine."
                )
            print(f"{printable(session.file)} is a copy of {printable(first.file)}: counted once")
    return list(known.values())


def read_session(file: Path) -> Session:
    """Read a file of answers; UserError, naming file and field, for anything that the page would not have written."""
    try:
        data = json.loads(file.read_bytes(), parse_constant=lambda word: check(False, f"{word} is no number"))
        check(isinstance(data, dict) and data.get("format") == FORMAT, f'it has no "format": "{FORMAT}"')
        check_keys(data, "the file", "format study participant seed window answers")
        study = check_study(data["study"])
        for key, digits in (("participant", 16), ("seed", 32)):
            check(is_hex(data[key], digits), f"{key} must have {digits} hexadecimal digits")
        check(isinstance(data["answers"], list), "answers must be a list")
        answers = [check_answer(answer, f"round {number}") for number, answer in enumerate(data["answers"], 1)]
        check(len({answer.pair for answer in answers}) == len(answers), "a pair occurs twice")
        uses = Counter(answer.use for answer in answers)
        check(all(uses[use] <= most for use, most in study["rounds"].items()), "more rounds than the study has")
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise UserError(f"{printable(file)} holds no answers of a page of real_or_fake.py: {error}.") from None
    return Session(file, study, data["participant"], answers)


def check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def check_keys(value: object, where: str, keys: str) -> None:
    check(isinstance(value, dict) and value.keys() == set(keys.split()), f"{where}: keys are missing or too many")


def is_hex(value: object, digits: int) -> bool:
    return isinstance(value, str) and re.fullmatch(rf"[0-9a-f]{{{digits}}}", value) is not None


def is_number(value: object, kinds: tuple[type, ...] = (int, float)) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool) and 0 <= value < math.inf


def check_study(study: object) -> dict:
    """Return the part of a file that names its study; ValueError if it is malformed."""
    check_keys(study, "study", "id name seconds in_turn jpeg rounds")
    check(is_hex(study["id"], 16) and isinstance(study["name"], str), "study: id or name is malformed")
    check(is_number(study["seconds"]) and isinstance(study["in_turn"], bool), "study: seconds or in_turn is malformed")
    check_keys(study["rounds"], "study: rounds", "practice test vigilance")
    check(all(is_number(number, (int,)) for number in study["rounds"].values()), "study: rounds must be numbers")
    return study


def check_answer(answer: object, where: str) -> Answer:
    """Turn one round of a file into an Answer; ValueError if it is malformed."""
    check_keys(answer, where, "pair use fake chosen shown width took by")
    check(isinstance(answer["pair"], str), f"{where}: pair must be text")
    check(answer["use"] in ("practice", "test", "vigilance"), f"{where}: use is unknown")
    check(answer["fake"] in SIDES, f"{where}: fake is no side")
    if answer["chosen"] is None:  # the page was reloaded while it showed the images
        return Answer(answer["pair"], answer["use"], None, ())
    check(answer["chosen"] in SIDES, f"{where}: chosen is no side")
    shown = answer["shown"]
    check(isinstance(shown, list) and len(shown) == 2 and all(map(is_number, shown)), f"{where}: shown needs two times")
    check(is_number(answer["took"]), f"{where}: took is no time")
    return Answer(answer["pair"], answer["use"], answer["chosen"] != answer["fake"], tuple(shown))


# ---- summary ----


def summary_of(sessions: list[Session], tolerance: float) -> dict:
    """Return a study's shares in [0, 1], over all rounds and per pair, and the answers left out with their reasons."""
    study, counted, excluded = sessions[0].study, [], {}
    for session in sessions:
        rounds, reason = usable_rounds(session, tolerance)
        if reason:
            excluded[str(session.file)] = reason
        else:
            counted.append(rounds)
    fooled, shown = Counter(), Counter()
    for rounds in counted:
        fooled.update(answer.pair for answer in rounds if answer.fooled)
        shown.update(answer.pair for answer in rounds)
    tallies = np.array([[sum(a.fooled for a in rounds), len(rounds)] for rounds in counted]).reshape(-1, 2)
    return {
        "id": study["id"],
        "name": study["name"],
        "sessions": len(counted),
        "rounds": sum(shown.values()),
        "labelled_real": sum(fooled.values()) / sum(shown.values()) if shown else None,
        "interval": interval(tallies),
        "pairs": {pair: {"rounds": shown[pair], "labelled_real": fooled[pair] / shown[pair]} for pair in sorted(shown)},
        "rounds_left_out": sum(study["rounds"]["test"] - len(rounds) for rounds in counted),
        "sessions_left_out": excluded,
    }


def usable_rounds(session: Session, tolerance: float) -> tuple[list[Answer], str]:
    """Return a session's rounds that count, and the reason to leave all of it out, or nothing."""
    by_use = {use: [answer for answer in session.answers if answer.use == use] for use in session.study["rounds"]}
    if any(len(by_use[use]) < number for use, number in session.study["rounds"].items()):
        return [], f"incomplete: {len(session.answers)} of {sum(session.study['rounds'].values())} rounds"
    asked, test, vigilance = 1000 * session.study["seconds"], by_use["test"], by_use["vigilance"]
    good = [a for a in test if a.fooled is not None and all(abs(ms - asked) <= tolerance for ms in a.shown)]
    lost = len(test) - len(good)
    if not good or lost > MOST_LOST * len(test):
        return [], f"in {lost} of {len(test)} rounds images were not shown for {asked:g} ms within {tolerance:g}"
    right = sum(answer.fooled is False for answer in vigilance)
    if right < LEAST_VIGILANT * len(vigilance):
        return [], f"not vigilant: {right} of {len(vigilance)} scrambled images were found"
    return good, ""


def interval(tallies: np.ndarray) -> dict | None:
    """Return the 95 % interval of the share labelled real over participants; None for fewer than two of them.

    `tallies`: (participants, 2), rounds in which the participant took the fake for real, and all rounds. The interval
    is 1.96 standard errors of this ratio of two sums.
    """
    if len(tallies) < 2:
        return None
    fooled, rounds = tallies.T
    share = fooled.sum() / rounds.sum()
    error = math.sqrt(len(tallies) * np.var(fooled - share * rounds, ddof=1)) / rounds.sum()
    return {"low": float(max(share - 1.96 * error, 0)), "high": float(min(share + 1.96 * error, 1))}


def print_table(studies: list[dict]) -> None:
    """Print a line for each study, the answers left out, and the pairs at both ends."""
    names = [f"{printable(study['name'])} ({study['id'][:6]})" for study in studies]
    width = max(map(len, names))
    print(f"{'':{width}}  sessions  rounds   labelled real   95 % interval")
    for name, study in zip(names, studies, strict=True):
        share = "-" if study["labelled_real"] is None else f"{100 * study['labelled_real']:.1f} %"
        ends = study["interval"]
        span = f"{100 * ends['low']:.1f} to {100 * ends['high']:.1f}" if ends else "-"
        print(f"{name:{width}}  {study['sessions']:8}  {study['rounds']:6}  {share:>14}  {span:>14}")
    for name, study in zip(names, studies, strict=True):
        print(f"\n{name}: {study['rounds_left_out']} rounds and {len(study['sessions_left_out'])} sessions left out")
        for file, reason in study["sessions_left_out"].items():
            print(f"  {printable(file)}: {reason}")
        ranked = sorted(study["pairs"].items(), key=lambda item: (-item[1]["labelled_real"], item[0]))
        for words, some in (("most", ranked[:EXAMPLES]), ("least", ranked[: -EXAMPLES - 1 : -1])):
            shares = (f"{printable(pair)} ({100 * s['labelled_real']:.0f} % of {s['rounds']})" for pair, s in some)
            print(f"  {words} often taken for real: {', '.join(shares) or '-'}")
