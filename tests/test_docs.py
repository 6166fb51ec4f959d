"""The documents say what is: links, targets, commands, decisions, changelog, addresses."""

import importlib
import re
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import typer
from typer.core import TyperGroup

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/**/*.md")]
)
DECISIONS = sorted(ROOT.glob("docs/decisions/*.md"))
MAKEFILE = ROOT / "Makefile"
FOLDERS = (
    ".ci",
    "benchmarks",
    "deploy",
    "docs",
    "loadtest",
    "model",
    "requirements",
    "scripts",
    "service",
)
SUFFIXES = {"", ".html", ".js", ".lock", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml"}
HOSTS = {  # every host a file of ours may name
    "127.0.0.1",
    "amazon-reviews-2023.github.io",
    "arxiv.org",
    "doi.org",
    "download.pytorch.org",
    "example.com",
    "files.grouplens.org",
    "github.com",
    "grouplens.org",
    "keepachangelog.com",
    "localhost",
    "nijianmo.github.io",
    "prometheus",  # a service of docker-compose.yml
    "prometheus-operated.monitoring.svc",  # the Prometheus operator's service in a cluster
    "semver.org",
    "snap.stanford.edu",
    "stamp",  # likewise
    "www.apache.org",
    "www.w3.org",  # the name of SVG
}
SECTIONS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def text_files() -> list[Path]:
    """Every text file we ship, tests aside: they may quote what they forbid."""
    nested = [path for folder in (*FOLDERS, "training") for path in (ROOT / folder).rglob("*")]
    top = [path for path in ROOT.iterdir() if not path.name.startswith((".coverage", ".env"))]
    return [path for path in [*top, *nested] if path.is_file() and path.suffix in SUFFIXES]


def code_of(document: Path) -> str:
    """What a document shows as code, lines that continue joined."""
    text = document.read_text(encoding="utf-8").replace("\\\n", " ")
    fence = re.compile(r"^```.*?^```", flags=re.MULTILINE | re.DOTALL)
    blocks = fence.findall(text)
    spans = re.findall(r"`([^`\n]+)`", fence.sub("", text))
    return "\n".join([*blocks, *spans])


def targets() -> set[str]:
    """The targets of the Makefile."""
    return set(re.findall(r"^([a-z]+):", MAKEFILE.read_text(encoding="utf-8"), flags=re.MULTILINE))


def verbs(package: str) -> dict[str, set[str]]:
    """The verbs of a package's command line, each with its options."""
    module = importlib.import_module(f"{package}.__main__")
    group = typer.main.get_command(module.app)
    assert isinstance(group, TyperGroup)
    return {
        name: {option for parameter in command.params for option in parameter.opts} | {"--help"}
        for name, command in group.commands.items()
    }


def unknown_commands(code: str, package: str) -> list[str]:
    """The command lines in some code whose verb, or one of whose options, does not exist."""
    known = verbs(package)
    found = re.findall(rf"-m {package} ([a-z][a-z-]*)([^\n|;&#)]*)", code)
    return [
        f"-m {package} {verb}{rest}"
        for verb, rest in found
        if not set(re.findall(r"--[a-z][a-z-]*", rest)) <= known.get(verb, set())
        or verb not in known
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_lead_somewhere(document: Path) -> None:
    """Every link without a host names a file or folder beside the document."""
    links = re.findall(r"\]\(([^)\s#]+)[^)]*\)", document.read_text(encoding="utf-8"))
    relative = [link for link in links if not urlsplit(link).scheme]

    assert [link for link in relative if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_named_exists(document: Path) -> None:
    """`make x` in a document's code is a target of the Makefile."""
    named = set(re.findall(r"\bmake ([a-z]+)\b", code_of(document)))

    assert named - targets() == set()


@pytest.mark.parametrize("package", ["training", "service", "loadtest"])
def test_every_command_named_exists(package: str) -> None:
    """Verbs and options in the documents' code, the Makefile and the scripts are real ones."""
    scripts = [MAKEFILE, *ROOT.glob("scripts/*.sh"), ROOT / ".ci" / "run"]
    code = [path.read_text(encoding="utf-8").replace("\\\n", " ") for path in scripts]

    everything = "\n".join([*code, *map(code_of, DOCUMENTS)])

    assert unknown_commands(everything, package) == []


def test_a_decision_is_known_by_its_number() -> None:
    """NNNN-title.md, and no number twice."""
    numbers = [re.fullmatch(r"(\d{4})-[a-z0-9-]+\.md", path.name) for path in DECISIONS]
    named = [number[1] for number in numbers if number]

    assert len(named) == len(set(named)) == len(DECISIONS)


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda path: path.name[:4])
def test_a_decision_says_when_it_would_fall(decision: Path) -> None:
    """Context, Decision, Consequences, What would change our mind, in this order."""
    headings = re.findall(r"^## (.+)$", decision.read_text(encoding="utf-8"), flags=re.MULTILINE)

    assert headings == ["Context", "Decision", "Consequences", "What would change our mind"]


def test_the_changelog_keeps_its_format() -> None:
    """Unreleased on top, then dated versions; known sections, each with an entry."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    sections = re.findall(r"^### (.+)\n\n(.)", text, flags=re.MULTILINE)

    assert versions[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", name) for name in versions[1:])
    assert len(sections) == text.count("\n### ")
    assert {name for name, _ in sections} <= SECTIONS
    assert {first for _, first in sections} == {"-"}


def test_only_known_hosts_are_named() -> None:
    """An address we did not choose is somebody's mirror, or a link nobody looked at."""
    unknown = {
        f"{path.relative_to(ROOT)}: {host}"
        for path in text_files()
        for host in re.findall(r"https?://([\w.-]*\w)", path.read_text(encoding="utf-8"))
        if host not in HOSTS
    }

    assert unknown == set()


def test_no_path_of_somebodys_machine_is_named() -> None:
    """A path under a home or a workplace exists on one machine."""
    private = re.compile(r"(?<![\w.}])/(?:home|root|work|Users|opt/[a-z]+)/[\w.-]+")
    found = {
        f"{path.relative_to(ROOT)}: {match}"
        for path in text_files()
        for match in private.findall(path.read_text(encoding="utf-8"))
    }

    assert found == set()


def test_the_version_is_one() -> None:
    """pyproject.toml and the service agree."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert project["version"] == importlib.import_module("service").__version__
