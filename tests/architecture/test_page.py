"""docs/architecture.md: what it names exists, and it answers what a newcomer asks."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mvmic_codec"
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
LINES_AT_MOST = 155
WORDS_IN_A_SENTENCE = 30

# What the page must name under each question, in this order.
ANSWERS = {
    "to add a metadata chunk": [
        "formats/mvm-3.md",
        "bitstream/container.py",
        "image/metadata.py",
        "api.py",
        "cli/formats.py",
        "cli/lost.py",
        "tests/image/test_metadata.py",
    ],
    "to take a new Pillow mode": [
        "image/samples.py",
        "cli/lost.py",
        "bitstream/header.py",
        "cli/formats.py",
        "tests/image/test_samples.py",
        "tests/plugin/test_plugin.py",
    ],
    "to add a context pass": [
        "formats/model.md",
        "formats/reference/decode.py",
        "model/schedule.py",
        "model/entropy.py",
        "model/integer.py",
        "model/native.py",
        "model/integerise.py",
        "model/identity.py",
        "RELEASING.md",
        "tests/model/test_integer.py",
        "tests/reference/test_reference.py",
    ],
    "to add a peer": [
        "evaluation/codec.py",
        "evaluation/peers.py",
        "evaluation/programs.py",
        "evaluation/palette.py",
        "tests/evaluation/test_peers.py",
    ],
}

PATH = re.compile(r"(?<![\w/.-])[\w-]+(?:/[\w-]+)*\.(?:py|pyx|c|h|md|ksy)\b")
FOLDER = re.compile(r"`((?:\w+/)+)`")
NAME = re.compile(r"`([A-Za-z_]\w*)`")
# Names in `code` that are none of a file's: arguments and members of others.
OTHERS = {"effort", "info", "save"}


def path_of(named):
    """The file or folder that a path of the page means, or None if there is none."""
    return next((base / named for base in (ROOT, PACKAGE) if (base / named).exists()), None)


def names_in(path):
    """The names that a file of code defines at its top, or all words of another one."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return set(re.findall(r"\w+", text))
    found = set()
    for node in ast.parse(text).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def sections(page):
    """The text below each heading, by the heading."""
    parts = re.split(r"^#+ (.*)$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def blocks(page):
    """Rows of tables, items of lists and paragraphs, outside of the diagram."""
    prose = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    return re.split(r"\n(?=\||\d+\. )|\n\n", prose)


def missing(page):
    """What the page names and the repository has not, as sentences."""
    found = [f"no file {path}" for path in PATH.findall(page) if path_of(path) is None]
    found += [f"no folder {folder}" for folder in FOLDER.findall(page) if path_of(folder) is None]
    for block in blocks(page):
        files = [path for named in PATH.findall(block) if (path := path_of(named))]
        names = set(NAME.findall(block)) - OTHERS
        defined = set().union(*map(names_in, files)) if names else set()
        found += [f"no {name} in a file of: {block.strip()}" for name in sorted(names - defined)]
    return found


def test_everything_that_it_names_exists():
    assert missing(PAGE) == []
    assert len(PATH.findall(PAGE)) > 50


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("decoder/decode.py", "decoder/renamed.py"),
        ("`run_schedule`", "`run_the_schedule`"),
        ("`csrc/common/intnet.c`", "`csrc/intnet.c`"),
        ("| `encoder/` |", "| `coder/` |"),
        ("`EntropyModel`", "`IntegerEntropy`"),
    ],
)
def test_a_name_that_has_gone_is_found(old, new):
    assert old in PAGE
    assert missing(PAGE.replace(old, new)) != []


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        path, _, anchor = target.partition("#")
        text = (ROOT / "docs" / path).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings]
        assert not anchor or anchor in anchors, target


def test_every_room_is_described():
    rows = sections(PAGE)["Rooms"]
    rooms = [path.parent.name for path in PACKAGE.glob("*/__init__.py")]
    assert len(rooms) >= 8
    for room in rooms:
        assert f"| `{room}/` |" in rows
    for face in PACKAGE.glob("[!_]*.py"):
        assert f"`{face.name}`" in rows


@pytest.mark.parametrize("question", ANSWERS)
def test_every_question_is_answered(question):
    answer = next(text for head, text in sections(PAGE).items() if question in head)
    named = PATH.findall(answer)
    assert [path for path in ANSWERS[question] if path not in named] == []
    # In the order in which they change; what tells whether it works comes last.
    assert sorted(ANSWERS[question], key=named.index) == ANSWERS[question]
    assert re.findall(r"^\d+\. (\w+)", answer, re.MULTILINE)[-1] == "Tests"


def test_it_is_short_and_plain():
    assert len(PAGE.splitlines()) <= LINES_AT_MOST
    for block in blocks(PAGE):
        if block.lstrip().startswith(("|", "#")):
            continue
        # Dots within names end no sentence.
        for sentence in re.split(r"[.:;?]\s", re.sub(r"`[^`]*`", "name", block)):
            assert len(sentence.split()) <= WORDS_IN_A_SENTENCE, sentence
