"""The tables of README.md that the code knows best: every setting, every route, what becomes of each request field.

    python .ci/readme_tables.py            write them, between their comment markers
    python .ci/readme_tables.py --check    exit 1 where README says something else

tests/test_docs.py holds README to this. A new setting comes in by itself; a new route needs its
place in agproxy/openapi.py.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
sys.path.insert(0, str(ROOT))

from agproxy import config, metrics, openapi  # noqa: E402
from agproxy.cli.common import groups  # noqa: E402
from agproxy.config import Setting  # noqa: E402
from agproxy.frontends import FRONTENDS  # noqa: E402
from agproxy.frontends._fields import Field, Verdict  # noqa: E402
from agproxy.frontends.openai_responses.tools import REFUSED, SERVED  # noqa: E402
from agproxy.gateway import build_routes  # noqa: E402


def settings_table() -> str:
    lines = ["| setting | key in config.json | default | meaning |", "|---|---|---|---|"]
    for heading, settings in groups().items():
        lines.append(f"| **{heading}** | | | |")
        lines += [_setting_row(setting) for setting in settings]
    return "\n".join(lines)


def _setting_row(setting: Setting) -> str:
    name = f"`{setting.variable}`" if setting.secret else f"`{setting.flag}`"
    shown = config.show(setting, setting.default)
    default = f"`{shown}`{' ' + setting.unit if setting.unit else ''}" if setting.default not in ("", ()) else ""
    meaning = _cell(setting.help)
    if setting.choices:
        *others, last = (f"`{choice}`" for choice in setting.choices)
        meaning += f" ({', '.join(others)} or {last})"
    return "| " + " | ".join((name, f"`{setting.key}`", default, meaning)) + " |"


def routes_table() -> str:
    lines = ["| route | purpose |", "|---|---|"]
    for route in build_routes():
        said = openapi.SAID.get((route.method, route.pattern))
        if said is None:
            raise SystemExit(f"{route.method} {route.pattern}: say in SAID of agproxy/openapi.py what it is for")
        lines.append(f"| `{route.method} {openapi.path_of(route.pattern)}` | {_cell(said.purpose)} |")
    return "\n".join(lines)


# Frontend -> what OpenAI calls it. A new frontend needs a name here.
TITLES = {"openai_chat": "Chat Completions", "openai_completions": "Completions", "openai_responses": "Responses"}
# OpenAI's other APIs, by the first part of their path. What gets a route falls out of the sentence by itself.
OTHERS = (
    "embeddings",
    "images",
    "audio",
    "files",
    "uploads",
    "batches",
    "moderations",
    "realtime",
    "assistants",
    "threads",
    "vector_stores",
    "fine_tuning",
    "containers",
    "videos",
    "evals",
)


def fields_table() -> str:
    lines = ["| API | taken over | no effect, and a warning | refused (400) |", "|---|---|---|---|"]
    for name, frontend in FRONTENDS.items():
        if name not in TITLES:
            raise SystemExit(f"{name}: say in TITLES of .ci/readme_tables.py what its API is called")
        taken = ", ".join(f"`{field}`" for field, row in frontend.FIELDS.items() if row.verdict is Verdict.MAPPED)
        others = (_by_reason(frontend.FIELDS, verdict) for verdict in (Verdict.IGNORED, Verdict.REFUSED))
        lines.append("| " + " | ".join((f"**{TITLES[name]}**", taken, *others)) + " |")
    refused = "; ".join(f"`{kind}`: {_cell(reason)}" for kind, reason in REFUSED.items())
    lines.append(f"| **Responses**: tools | {', '.join(f'`{kind}`' for kind in SERVED)} | | {refused} |")
    served = {route.pattern.split("/")[1] for route in build_routes()}
    missing = ", ".join(f"`/v1/{path}`" for path in OTHERS if path not in served)
    return "\n".join([*lines, "", f"Not served, and so 404: {missing}."])


def _by_reason(fields: Mapping[str, Field], verdict: Verdict) -> str:
    """The fields of a verdict, those with one reason together."""
    reasons: dict[str, list[str]] = {}
    for name, field in fields.items():
        if field.verdict is verdict:
            reasons.setdefault(field.reason, []).append(f"`{name}`")
    return "; ".join(f"{', '.join(names)}: {_cell(reason)}" for reason, names in reasons.items())


def _cell(text: str) -> str:
    """Text in a Markdown table: a bar would end the cell, and stars would turn words in between slanted."""
    return text.replace("|", "\\|").replace("*", "\\*")


def metrics_table() -> str:
    lines = ["| name | type | labels | meaning |", "|---|---|---|---|"]
    for name, family in metrics.FAMILIES.items():
        labels = ", ".join(f"`{label}`" for label in family.labels)
        lines.append(f"| `{name}` | {family.kind} | {labels} | {_cell(family.help)} |")
    return "\n".join(lines)


BLOCKS = {"fields": fields_table, "settings": settings_table, "routes": routes_table, "metrics": metrics_table}


def rewritten(readme: str) -> str:
    """README with its blocks as they should be."""
    for name, table in BLOCKS.items():
        begin, end = f"<!-- {name}: written by `make docs` -->", f"<!-- end of {name} -->"
        pattern = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
        if len(pattern.findall(readme)) != 1:
            raise SystemExit(f"README.md: one block was expected from {begin} to {end}")
        text = f"{begin}\n{table()}\n{end}"
        readme = pattern.sub(lambda _, text=text: text, readme)
    return readme


def main(arguments: list[str]) -> int:
    readme = README.read_text(encoding="utf-8")
    wanted = rewritten(readme)
    if readme == wanted:
        return 0
    if arguments == ["--check"]:
        print("README.md: its tables are not what the code says: run `make docs`", file=sys.stderr)
        return 1
    README.write_text(wanted, encoding="utf-8", newline="\n")
    print("README.md: tables written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
