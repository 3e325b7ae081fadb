"""Is what the pages name there: commands and their options, error codes, files, tests and links?"""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from securemllib.cli import app

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "security").glob("*.md"), *(ROOT / "docs" / "adr").glob("0*.md")]
)
SOURCES = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").rglob("*.py"))}
# `make docs` writes these.
GENERATED = {ROOT / "docs" / "parity.md", ROOT / "docs" / "security" / "leakage.md"}
# A changelog tells of what was.
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]


def text_of(page):
    """Return a page's text."""
    return page.read_text(encoding="utf-8")


def commands_of(text):
    """Return every call of the command line on a page: the lines of its blocks, and what stands between backticks."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    calls = [part.strip() for line in [*lines, *spans] for part in line.split("&&")]
    return [call for call in calls if re.match(r"securemllib [a-z]", call)]


def wrong_in(call):
    """Return the words of a call that the command line does not know: commands, and options of the last one."""
    words = shlex.split(call.partition("  #")[0].split(" > ")[0])[1:]
    command = get_command(app)
    wrong = []
    for word in words:
        if hasattr(command, "list_commands") and command.list_commands(None) and not word.startswith("-"):
            found = command.get_command(None, word)
            if found is None:
                return [*wrong, word]
            command = found
        elif word.startswith("--"):
            known = {option for param in command.params for option in (*param.opts, *param.secondary_opts)} | {"--help"}
            wrong += [word] if word.partition("=")[0] not in known else []
    return wrong


def test_a_wrong_word_is_found():
    """Calls are found in blocks and between backticks, and what the command line does not know in them."""
    page = "`securemllib data encrypt`\n```sh\n$ securemllib enrol DIRECTORY --brocker URL\n```\n"
    assert commands_of(page) == ["securemllib enrol DIRECTORY --brocker URL", "securemllib data encrypt"]
    assert [wrong_in(call) for call in commands_of(page)] == [["--brocker"], []]
    assert wrong_in("securemllib data encript x") == ["encript"]
    assert sum(len(commands_of(text_of(page))) for page in CURRENT) > 100


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_and_options_exist(page):
    """Each subcommand and option that a page shows is one of the command line's."""
    assert {call: wrong_in(call) for call in commands_of(text_of(page)) if wrong_in(call)} == {}


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_error_codes_exist(page):
    """Each error code that a page names stands in the source."""
    named = re.findall(r"[`\[]((?:usage|refused|integrity|unavailable|data)\.[a-z_.]+[a-z])[`\]]", text_of(page))
    assert {code for code in named if not any(f'"{code}"' in source for source in SOURCES.values())} == set()


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_and_tests_exist(page):
    """Each path between backticks is a file's or folder's of the repository, and a test's name is in its file."""
    for path, test in re.findall(r"`((?:tests|bench|docs|deploy|scripts|src|changes)/[\w./-]+)(?:::(\w+))?", text_of(page)):
        assert (ROOT / path).exists() or ROOT / path in GENERATED, path
        assert not test or f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{test}"


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_settings_exist(page):
    """Each setting of a session that a page names is read by the source."""
    named = set(re.findall(r"`(spark\.securemllib\.[a-z.]+[a-z])", text_of(page)))
    read = "\n".join(source for path, source in SOURCES.items() if "/spark/" in path.as_posix())
    assert {name for name in named if name not in read and name.removeprefix("spark.securemllib.") not in read} == set()


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_resolve(page):
    """Each link to another file of the repository leads to one."""
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text_of(page))
    assert {link for link in links if not (page.parent / link).exists() and (page.parent / link).resolve() not in GENERATED} == set()
