"""All claims of a folder of metrics, judged: as Markdown, LaTeX, and as the summaries of README and documentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from experiments.claims.clustering import clustering
from experiments.claims.known_sizes import known_sizes
from experiments.claims.rules import NOT_COMPARABLE, NOT_JUDGED, Claim, Measurement, judge, read_rules, rule_in_words
from experiments.claims.sampling import kolmogorov_smirnov, urn
from experiments.claims.weak_supervision import weak_supervision
from experiments.claims.weak_supervision_studies import weak_supervision_studies
from experiments.results import LEFT_OUT, PROFILES, ordered, read_left_out
from experiments.settings import ExperimentError, named_problems
from experiments.store import write_atomically
from experiments.tables import NOTHING, Table, longtables

# Room -> what measures its claims, and of which experiment's metrics, in the order of the paper.
ROOMS: dict[str, dict[Callable[[Path], list[Measurement]], str]] = {
    "kolmogorov_smirnov": {kolmogorov_smirnov: "kolmogorov_smirnov"},
    "urn": {urn: "urn"},
    "weak_supervision": {weak_supervision: "weak_supervision", weak_supervision_studies: "weak_supervision"},
    "clustering": {clustering: "clustering", known_sizes: "clustering_control"},
}

HEADER = ("claim", "paper", "ours", "difference", "seeds", "verdict", "data, profile, hardware, time")
WIDTHS = (0.203, 0.118, 0.192, 0.114, 0.07, 0.163, 0.14)  # of these columns, shares of the line
START, END = "<!-- results:start -->", "<!-- results:end -->"
MOST_SHOWN = 8  # numbers, or parts with one verdict, of a line in a summary
MEANINGLESS = "Smoke runs: these numbers mean nothing."
_INTRODUCTION = """\
# Claims and verdicts

Each claim is judged by a rule that stands in `experiments/claims/rules.yaml`; the rules are listed below. A claim of
the paper is reproduced, close or not reproduced only where data and budget are the paper's; elsewhere it is not
comparable, and the brackets say whether it holds on what was run. Claims of our own ("ours") hold or fail there.
"""


def write_claims(
    metrics: Path, output: Path, *, documentation: Path | None = None, readme: Path | None = None
) -> tuple[list[Claim], list[str]]:
    """Writes ``<output>/verdicts.md`` and ``verdicts.tex``.

    Args:
        metrics: Folder of the CSVs.
        output: Folder.
        documentation: Markdown file whose summary is rewritten between its markers.
        readme: The same for the headlines alone.

    Returns:
        The claims, and what they leave out and why.

    Raises:
        ExperimentError: there is nothing to judge, or a file has no markers.
    """
    claims, problems = judge_all(metrics)
    left_out: list[str] = []
    with named_problems(LEFT_OUT, problems):
        left_out = read_left_out(metrics)
    left_out += problems
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "verdicts.md", claims_markdown(claims, left_out))
    write_atomically(output / "verdicts.tex", claims_latex(claims))
    for path, headlines in ((documentation, False), (readme, True)):
        if path:
            text = summary(claims, headlines).markdown().strip()
            write_atomically(path, replace_between_markers(path, text))
    return claims, left_out


def judge_by_room(metrics: Path) -> tuple[dict[str, list[Claim]], list[str]]:
    """Judges every claim of the rooms whose metrics are there.

    Args:
        metrics: Folder of the aggregator's CSVs.

    Returns:
        Room -> its claims, in the order of the paper's sections, and what could not be judged and why.
    """
    claims: dict[str, list[Claim]] = {}
    problems: list[str] = []
    for room, measures in ROOMS.items():
        for measure in [one for one, name in measures.items() if (metrics / f"{name}_metrics.csv").is_file()]:
            with named_problems(measure.__name__.replace("_", " "), problems):
                claims[room] = [*claims.get(room, []), *map(judge, measure(metrics))]
    return claims, problems


def judge_all(metrics: Path) -> tuple[list[Claim], list[str]]:
    """The same, of all rooms in one list.

    Raises:
        ExperimentError: there is nothing to judge.
    """
    claims, problems = judge_by_room(metrics)
    if not any(claims.values()):
        reason = f" ({'; '.join(problems)})" if problems else ""
        raise ExperimentError(f"{metrics} holds no metrics of {', '.join(ROOMS)}{reason}")
    return list(chain(*claims.values())), problems


def claims_markdown(claims: Sequence[Claim], left_out: Sequence[str] = ()) -> str:
    """Returns all claims, section by section, what was left out, and the rules."""
    parts = [_INTRODUCTION]
    if is_smoke(claims):
        parts.append(f"**{MEANINGLESS}**\n")
    if left_out:
        parts.append("**Left out** of these numbers:\n\n" + "".join(f"- {line}\n" for line in left_out))
    for name, some in _sections(claims).items():
        parts.append(_table(f"## {name[0].upper()}{name[1:]}", some).markdown())
    used = {one.measurement.rule for one in claims}
    rules = "".join(f"- `{key}`: {rule_in_words(key)}\n" for key in read_rules() if key in used)
    return "\n".join([*parts, f"## Rules\n\n{rules}"])


def claims_latex(claims: Sequence[Claim]) -> str:
    """Returns all claims as a file of longtables, one per section."""
    tables = [_table(f"Claims and verdicts: {name}", some) for name, some in _sections(claims).items()]
    return longtables(tables, WIDTHS)


def is_smoke(claims: Iterable[Claim]) -> bool:
    """Whether any of the numbers was made by the smoke profile."""
    return any("smoke" in one.provenance.profile for one in claims if one.provenance)


def summary(claims: Sequence[Claim], headlines: bool = False) -> Table:
    """Returns the claims in short: a line per rule that has runs, of each part on the largest profile that is judged.

    Parts whose largest profiles or data differ have lines of their own, and so has each place of our own claims.

    Args:
        claims: All of them.
        headlines: Whether only the rules that rules.yaml calls so are shown.
    """
    rows = []
    for key, rule in read_rules().items():
        some = [one for one in claims if one.measurement.rule == key and one.measurement.short]
        profiles = ordered({_block(one)[0] for one in some}, PROFILES)
        # Stable: of one profile, the first data set. A larger profile with too few seeds hides no verdict.
        some.sort(key=lambda one: (bool(one.measurement.missing), profiles.index(_block(one)[0])))
        largest: dict[tuple[str, str], tuple[str, str]] = {}
        for one in some:
            largest.setdefault((one.place, one.measurement.part), _block(one))
        lines: dict[object, list[Claim]] = {}
        for one in some:
            if largest[one.place, one.measurement.part] == _block(one):
                lines.setdefault((one.place if one.is_ours else "", _block(one)), []).append(one)
        parts = [] if headlines and not rule.get("headline") else lines.values()
        words = str(rule.get("summary") or rule["claim"])
        rows += [_line(words, part) for part in parts if any(_says_something(one) for one in part)]
    return Table("", ("claim", "measured here", "data, profile, seeds", "verdict"), rows, text=True)


def replace_between_markers(path: Path, text: str) -> str:
    """Returns a file's text with what stands between the two markers replaced.

    Raises:
        ExperimentError: it has no such markers.
    """
    old = path.read_text() if path.is_file() else ""
    if old.count(START) != 1 or old.count(END) != 1 or old.index(START) > old.index(END):
        raise ExperimentError(f"{path} needs one line {START} and after it one line {END}")
    before, after = old.split(START)[0], old.split(END)[1]
    return f"{before}{START}\n{text}\n{END}{after}"


def _sections(claims: Iterable[Claim]) -> dict[str, list[Claim]]:
    """Claims by the section that they belong to, in the order in which they first come."""
    found: dict[str, list[Claim]] = {}
    for one in claims:
        section = "ours" if one.is_ours else one.place.split(", Figure")[0].split(", Table")[0]
        found.setdefault(section, []).append(one)
    return found


def _table(title: str, claims: Sequence[Claim]) -> Table:
    """Some claims, a line each."""
    rows = []
    for one in claims:
        seeds = ", ".join(str(seed) for seed in one.provenance.seeds) if one.provenance else ""
        line = [f"{one.place}: {one.claim}", one.paper, one.measured, one.measurement.difference, seeds or NOTHING]
        rows.append([*line, _verdict(one), _origin(one)])
    return Table(title, HEADER, rows, [one.provenance for one in claims], text=True)


def _verdict(claim: Claim) -> str:
    """The verdict, and in brackets what was found where it is not comparable, or why."""
    if claim.verdict == NOT_COMPARABLE:
        return f"{claim.verdict} ({claim.outcome} here: {claim.reason})"
    return f"{claim.verdict} ({claim.reason})" if claim.reason else claim.verdict


def _origin(claim: Claim) -> str:
    origin = claim.provenance
    if origin is None:
        return NOTHING
    changed = ["code with changes"] if any("with changes" in commit for commit in origin.commits) else []
    return ", ".join([origin.data, origin.profile, origin.device, origin.seconds, *changed])


def _block(claim: Claim) -> tuple[str, str]:
    block = claim.measurement.block
    return (block.profile, block.data) if block else ("", "")


def _says_something(claim: Claim) -> bool:
    measured = claim.measurement
    return bool(measured.missing) or claim.outcome != NOT_JUDGED or measured.difference != NOTHING


def _line(text: str, claims: Sequence[Claim]) -> list[str]:
    """Claims of one rule and block in a line: equal numbers once, of many numbers the range."""
    measured = [one.measurement for one in claims]
    place = "; ".join(dict.fromkeys(one.place for one in claims))
    labels = [one.part for one in measured]
    if len(set(labels)) < len(labels):  # the same parts of several places
        labels = [", ".join(filter(None, (one.place, one.measurement.part))) for one in claims]
    shown = [f"{label}: {one.short}" if len(claims) > 1 else one.short for label, one in zip(labels, measured)]
    if len(shown) > 1 and len({one.short for one in measured}) == 1:
        shown = [f"{measured[0].short}, {len(shown)} times"]
    words: dict[str, list[str]] = {}
    for label, one in zip(labels, claims):
        words.setdefault(_short_verdict(one), []).append(label)
    verdicts = [f"{word}: {_few(parts)}" if len(words) > 1 else word for word, parts in words.items()]
    if len(shown) > MOST_SHOWN and (numbers := _in_order(measured)):
        shown = [f"{numbers[0]} to {numbers[-1]}, {len(numbers)} numbers"]
    origin = claims[0].provenance
    found = {seed for one in claims if one.provenance for seed in one.provenance.seeds}
    seeds = ", ".join(str(seed) for seed in sorted(found))
    source = [part for part in (origin.data, origin.profile, seeds) if part] if origin else [NOTHING]
    claim = f"{place}: {text.format(**measured[0].fills)}"
    return [claim, "; ".join(shown), "; ".join(source), "<br>".join(verdicts)]


def _few(parts: Sequence[str]) -> str:
    """The parts that have a verdict; of many their number."""
    return "; ".join(parts) if len(parts) <= MOST_SHOWN else f"{len(parts)} numbers"


def _in_order(measured: Sequence[Measurement]) -> list[str]:
    """What was measured, from the lowest; nothing where it does not begin with numbers."""
    with suppress(ValueError):
        return sorted((one.short for one in measured if one.short), key=lambda short: float(short.split()[0]))
    return []


def _short_verdict(claim: Claim) -> str:
    if claim.measurement.missing:
        return f"{NOT_JUDGED}: {claim.measurement.missing}"
    if claim.verdict != NOT_COMPARABLE:
        return f"**{claim.verdict}**"
    return claim.verdict if claim.outcome == NOT_JUDGED else f"{claim.verdict} ({claim.outcome} here)"
