"""Read the answers that the page of scripts/real_or_fake.py writes, and summarise them."""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from util.checkpoint.atomic_files import write_whole
from util.errors import UserError, printable

FORMAT = "real_or_fake 1"
TOLERANCE = 100  # ms by which a round's images may be shown too long or too short
MOST_LOST = 0.1  # share of rounds with a wrong display time, above which a session is left out
LEAST_VIGILANT = 0.75  # share of scrambled fakes that a session must find
EXAMPLES = 5  # pairs that are named as the most and as the least convincing


class Answer(NamedTuple):
    """One round: its pair, its use, whether the fake was taken for the real image, and how long images were shown."""

    pair: str
    use: str  # practice, test, vigilance
    fooled: bool
    shown: list[float]  # ms


class Session(NamedTuple):
    """The answers of one participant."""

    file: Path
    study: dict
    participant: str
    answers: list[Answer]


def summarise(args: argparse.Namespace) -> None:
    """Read answers, print the table, write the JSON file."""
    studies: dict[str, list[Session]] = {}
    for session in read_sessions(args.answers):
        studies.setdefault(json.dumps(session.study), []).append(session)
    found = [summary_of(sessions) for sessions in studies.values()]
    found.sort(key=lambda study: (study["name"], study["id"]))
    print_table(found)
    if args.json:
        write_whole(args.json, json.dumps({"studies": found}, indent=1) + "\n")


# ---- files of answers ----


def read_sessions(paths: list[Path]) -> list[Session]:
    """Read the named files, and answers_*.json in folders; a copy of a file counts once.

    Raises UserError for a folder without answers, and if one participant has different answers.
    """
    known: dict[tuple, Session] = {}
    for path in paths:
        files = sorted(path.glob("answers_*.json")) if path.is_dir() else [path]
        if not files:
            raise UserError(f"no answers_*.json in {printable(path)}: name the files that participants have sent back.")
        for session in map(read_session, files):
            first = known.setdefault((session.study["id"], session.participant), session)
            if first[1:] != session[1:]:
                raise UserError(
                    f"{printable(first.file)} and {printable(session.file)} are different answers of one participant, "
                    f"{session.participant}: keep the one that is genuine."
                )
            if first.file != session.file:
                print(f"{printable(session.file)} is a copy of {printable(first.file)}: counted once")
    return list(known.values())


def read_session(file: Path) -> Session:
    """Read a file of answers; UserError if the page would not have written it."""
    try:
        data = json.loads(file.read_bytes())
        check(isinstance(data, dict) and data.get("format") == FORMAT, f'it has no "format": "{FORMAT}"')
        id, name, seconds, rounds = (data["study"][key] for key in ("id", "name", "seconds", "rounds"))
        study = {"id": str(id), "name": str(name), "seconds": float(seconds)}
        study["rounds"] = {use: int(rounds[use]) for use in ("practice", "test", "vigilance")}
        answers = [read_answer(answer) for answer in data["answers"]]
        check(len({answer.pair for answer in answers}) == len(answers), "a pair occurs twice")
        uses = Counter(answer.use for answer in answers)
        check(all(number <= study["rounds"][use] for use, number in uses.items()), "more rounds than the study has")
        return Session(file, study, str(data["participant"]), answers)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        text = f"{error} is missing or unknown" if isinstance(error, KeyError) else error
        raise UserError(f"{printable(file)} holds no answers of a page of real_or_fake.py: {text}.") from None


def read_answer(answer: dict) -> Answer:
    """Turn one round of a file into an Answer; earlier pages wrote no times for a round that was interrupted."""
    sides = answer["fake"], answer["chosen"] or answer["fake"]
    check(set(sides) <= {"first", "second"}, f"{sides} are no sides")
    shown = [float(ms) for ms in answer["shown"] or [0]]
    return Answer(str(answer["pair"]), answer["use"], sides[0] != sides[1], shown)


def check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


# ---- summary ----


def summary_of(sessions: list[Session]) -> dict:
    """Return a study's shares in [0, 1], over all rounds and per pair, and the answers left out with their reasons."""
    study, usable = sessions[0].study, {str(session.file): usable_rounds(session) for session in sessions}
    counted = [rounds for rounds, reason in usable.values() if not reason]
    shown = Counter(answer.pair for rounds in counted for answer in rounds)
    fooled = Counter(answer.pair for rounds in counted for answer in rounds if answer.fooled)
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
        "sessions_left_out": {file: reason for file, (_, reason) in usable.items() if reason},
    }


def usable_rounds(session: Session) -> tuple[list[Answer], str]:
    """Return a session's rounds that count, and the reason to leave all of it out, or nothing."""
    rounds, asked = session.study["rounds"], 1000 * session.study["seconds"]
    if len(session.answers) < sum(rounds.values()):
        return [], f"incomplete: {len(session.answers)} of {sum(rounds.values())} rounds"
    test = [answer for answer in session.answers if answer.use == "test"]
    good = [answer for answer in test if all(abs(ms - asked) <= TOLERANCE for ms in answer.shown)]
    lost = len(test) - len(good)
    if not good or lost > MOST_LOST * len(test):
        return [], f"in {lost} of {len(test)} rounds images were not shown for {asked:g} ms within {TOLERANCE:g}"
    right = sum(answer.use == "vigilance" and not answer.fooled for answer in session.answers)
    if right < LEAST_VIGILANT * rounds["vigilance"]:
        return [], f"not vigilant: {right} of {rounds['vigilance']} scrambled images were found"
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
