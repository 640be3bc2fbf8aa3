"""Read the answers that the pages of real_or_fake.py give, and sum them up."""

from __future__ import annotations

import argparse
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

FORMAT = "real_or_fake 1"
SIDES = ("first", "second")  # left and right, or upper and lower
MOST_LOST = 0.1  # of a session's rounds: with more that were not shown as they should be, it is left out
LEAST_VIGILANT = 0.75  # of the rounds with a scrambled fake: with fewer that are right, a session is left out
EXAMPLES = 5  # pairs that are named as the most and as the least convincing


class Answer(NamedTuple):
    """One round: its pair, whether the fake was taken for the real image (None: not known), and what it was for."""

    pair: str
    use: str  # practice, test, vigilance
    fooled: bool | None
    shown: tuple[float, ...]  # ms that the images were visible


class Session(NamedTuple):
    """What one participant answered."""

    file: Path
    study: dict
    participant: str
    answers: list[Answer]


def summarise(args: argparse.Namespace) -> None:
    """Read answers, print the table, write the JSON file."""
    from util.checkpoint.atomic_files import write_whole
    from util.errors import UserError, printable

    if args.bootstrap < 0 or args.seed < 0 or not args.tolerance >= 0:
        raise UserError("--bootstrap, --seed and --tolerance are 0 or more.")
    studies: dict[str, list[Session]] = {}
    for session in once(read_session(file) for file in find_answers(args.answers)):
        studies.setdefault(json.dumps(session.study), []).append(session)
    if len(studies) > 1 and not args.mixed:
        names = "\n".join(
            f"  {sessions[0].study['id']}  {printable(sessions[0].study['name'])}, {len(sessions)} sessions"
            for sessions in studies.values()
        )
        raise UserError(f"these are answers to {len(studies)} pages; --mixed makes a line for each:\n{names}")
    found = [sum_up(sessions, args) for sessions in studies.values()]
    found.sort(key=lambda study: (study["name"], study["id"]))
    print_table(found)
    if args.json:
        write_whole(args.json, json.dumps({"studies": found}, indent=1) + "\n")


# ---- files of answers ----


def find_answers(paths: list[Path]) -> list[Path]:
    """List the files that are named, and the folders' *.json that are answers; UserError if there are none."""
    from util.errors import UserError, printable

    files = []
    for path in paths:
        inside = [file for file in sorted(path.glob("*.json")) if is_of_page(file)] if path.is_dir() else [path]
        if not inside:
            raise UserError(f"no answers in {printable(path)}: name the *.json that participants have sent back.")
        files += inside
    return list(dict.fromkeys(files))


def is_of_page(file: Path) -> bool:
    """Whether a folder's file is for us: not if it is sound JSON of something else, which is said."""
    from util.errors import printable

    try:
        data = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return True  # answers, perhaps, that were damaged: `read_session` refuses them
    if isinstance(data, dict) and "format" in data:
        return True
    print(f"{printable(file)} holds no answers: left out")
    return False


def once(sessions) -> list[Session]:
    """Return the sessions without copies of a file; UserError if one participant answered in two ways."""
    from util.errors import UserError, printable

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
    """Read a file of answers; UserError, naming file and place, for whatever the page would not have written."""
    from util.errors import UserError, printable

    try:
        data = json.loads(file.read_bytes(), parse_constant=lambda word: need(False, f"{word} is no number"))
        need(isinstance(data, dict) and data.get("format") == FORMAT, f'it has no "format": "{FORMAT}"')
        need(
            data.keys() == {"format", "study", "participant", "seed", "window", "answers"},
            "keys are missing or too many",
        )
        study = check_study(data["study"])
        for key, digits in (("participant", 16), ("seed", 32)):
            need(is_hex(data[key], digits), f"{key} is not of {digits} hexadecimal digits")
        need(isinstance(data["answers"], list), "answers are no list")
        answers = [check_answer(answer, number) for number, answer in enumerate(data["answers"], 1)]
        pairs = Counter(answer.pair for answer in answers)
        need(len(pairs) == len(answers), "a pair comes twice")
        uses = Counter(answer.use for answer in answers)
        need(all(uses[use] <= most for use, most in study["rounds"].items()), "more rounds than the study has")
    except (ValueError, RecursionError) as error:  # a JSONDecodeError or UnicodeDecodeError is a ValueError, too
        raise UserError(f"{printable(file)} holds no answers of a page of real_or_fake.py: {error}.") from None
    return Session(file, study, data["participant"], answers)


def need(holds: bool, otherwise: str) -> None:
    """Raise ValueError unless something holds."""
    if not holds:
        raise ValueError(otherwise)


def is_hex(value: object, digits: int) -> bool:
    return isinstance(value, str) and re.fullmatch(rf"[0-9a-f]{{{digits}}}", value) is not None


def is_number(value: object, kinds: tuple[type, ...] = (int, float)) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool) and 0 <= value < math.inf


def check_study(study: object) -> dict:
    """Return the part of a file that says which study it is of, or raise ValueError."""
    keys = {"id", "name", "seconds", "in_turn", "jpeg", "rounds"}
    need(isinstance(study, dict) and study.keys() == keys, "study: keys are missing or too many")
    need(is_hex(study["id"], 16) and isinstance(study["name"], str), "study: id or name is no such thing")
    need(
        is_number(study["seconds"]) and isinstance(study["in_turn"], bool), "study: seconds or in_turn is no such thing"
    )
    rounds = study["rounds"]
    need(
        isinstance(rounds, dict) and rounds.keys() == {"practice", "test", "vigilance"},
        "study: rounds are not as they are",
    )
    need(all(is_number(number, (int,)) for number in rounds.values()), "study: rounds are no numbers")
    return study


def check_answer(answer: object, number: int) -> Answer:
    """Turn one round of a file into an Answer, or raise ValueError."""
    keys = {"pair", "use", "fake", "chosen", "shown", "width", "took", "by"}
    need(isinstance(answer, dict) and answer.keys() == keys, f"round {number}: keys are missing or too many")
    need(isinstance(answer["pair"], str), f"round {number}: pair is no text")
    need(answer["use"] in ("practice", "test", "vigilance"), f"round {number}: use is unknown")
    need(answer["fake"] in SIDES, f"round {number}: fake is no side")
    if answer["chosen"] is None:  # the page was loaded again while it showed the images
        return Answer(answer["pair"], answer["use"], None, ())
    need(answer["chosen"] in SIDES, f"round {number}: chosen is no side")
    shown = answer["shown"]
    need(
        isinstance(shown, list) and len(shown) == 2 and all(map(is_number, shown)),
        f"round {number}: shown is no two times",
    )
    need(is_number(answer["took"]), f"round {number}: took is no time")
    return Answer(answer["pair"], answer["use"], answer["chosen"] != answer["fake"], tuple(shown))


# ---- what they come to ----


def sum_up(sessions: list[Session], args: argparse.Namespace) -> dict:
    """Return a study's figures: shares in [0, 1], by sessions and pairs; and what was left out, and why."""
    study, kept, excluded = sessions[0].study, [], {}
    lost = 0
    for session in sessions:
        rounds, reason = usable(session, args.tolerance)
        if reason:
            excluded[str(session.file)] = reason
        else:
            kept.append(rounds)
            lost += study["rounds"]["test"] - len(rounds)
    fooled, shown = Counter(), Counter()
    for rounds in kept:
        fooled.update(answer.pair for answer in rounds if answer.fooled)
        shown.update(answer.pair for answer in rounds)
    tallies = np.array([[sum(a.fooled for a in rounds), len(rounds)] for rounds in kept]).reshape(-1, 2)
    return {
        "id": study["id"],
        "name": study["name"],
        "sessions": len(kept),
        "rounds": sum(shown.values()),
        "labelled_real": sum(fooled.values()) / sum(shown.values()) if shown else None,
        **intervals(tallies, args.bootstrap, args.seed),
        "pairs": {pair: {"rounds": shown[pair], "labelled_real": fooled[pair] / shown[pair]} for pair in sorted(shown)},
        "rounds_left_out": lost,
        "sessions_left_out": excluded,
    }


def usable(session: Session, tolerance: float) -> tuple[list[Answer], str]:
    """Return a session's rounds that count, and the reason to leave all of it out, or nothing."""
    of = {use: [answer for answer in session.answers if answer.use == use] for use in session.study["rounds"]}
    if any(len(of[use]) < number for use, number in session.study["rounds"].items()):
        return [], f"incomplete: {len(session.answers)} of {sum(session.study['rounds'].values())} rounds"
    asked = 1000 * session.study["seconds"]
    good = [a for a in of["test"] if a.fooled is not None and all(abs(ms - asked) <= tolerance for ms in a.shown)]
    lost = len(of["test"]) - len(good)
    if not good or lost > MOST_LOST * len(of["test"]):
        return [], f"in {lost} of {len(of['test'])} rounds images were not shown for {asked:g} ms within {tolerance:g}"
    right = sum(answer.fooled is False for answer in of["vigilance"])
    if right < LEAST_VIGILANT * len(of["vigilance"]):
        return [], f"not vigilant: {right} of {len(of['vigilance'])} scrambled images were found"
    return good, ""


def intervals(tallies: np.ndarray, bootstrap: int, seed: int) -> dict:
    """Return 95 % intervals (percentiles) of the share labelled real, over participants, and over their rounds too.

    `tallies`: (participants, 2), rounds in which a participant took the fake for real, and all of them. To draw a
    participant's rounds anew is to draw a binomial number of such rounds. None where nothing can be drawn.
    """
    result = dict.fromkeys(("participants", "participants_and_rounds"))
    if bootstrap and len(tallies):
        rng = np.random.default_rng(seed)
        shares = np.empty((bootstrap, 2))
        for i in range(bootstrap):
            fooled, rounds = tallies[rng.integers(len(tallies), size=len(tallies))].T
            shares[i] = fooled.sum() / rounds.sum(), rng.binomial(rounds, fooled / rounds).sum() / rounds.sum()
        ends = np.percentile(shares, [2.5, 97.5], axis=0).T.tolist()
        result = {name: dict(zip(("low", "high"), pair, strict=True)) for name, pair in zip(result, ends, strict=True)}
        if len(tallies) == 1:
            result["participants"] = None  # one alone says nothing of others
    return {"intervals": result}


def print_table(studies: list[dict]) -> None:
    """Print a line for each study, what was left out, and the pairs at both ends."""
    from util.errors import printable

    names = [f"{printable(study['name'])} ({study['id'][:6]})" for study in studies]
    width = max(map(len, names))
    print(f"{'':{width}}  sessions  rounds   labelled real   95 %: participants   and their rounds")
    for name, study in zip(names, studies, strict=True):
        share = "-" if study["labelled_real"] is None else f"{100 * study['labelled_real']:.1f} %"
        ends = [f"{100 * e['low']:.1f} to {100 * e['high']:.1f}" if e else "-" for e in study["intervals"].values()]
        print(f"{name:{width}}  {study['sessions']:8}  {study['rounds']:6}  {share:>14}  {ends[0]:>19}  {ends[1]:>17}")
    for name, study in zip(names, studies, strict=True):
        print(f"\n{name}: {study['rounds_left_out']} rounds and {len(study['sessions_left_out'])} sessions left out")
        for file, reason in study["sessions_left_out"].items():
            print(f"  {printable(file)}: {reason}")
        ranked = sorted(study["pairs"].items(), key=lambda item: (-item[1]["labelled_real"], item[0]))
        for words, some in (("most", ranked[:EXAMPLES]), ("least", ranked[: -EXAMPLES - 1 : -1])):
            print(f"  {words} often taken for real:", end=" ")
            print(
                ", ".join(f"{printable(p)} ({100 * s['labelled_real']:.0f} % of {s['rounds']})" for p, s in some) or "-"
            )
