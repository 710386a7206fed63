"""`agproxy completions`: completion of commands, flags and values for bash, zsh and fish, from the parsers themselves.

A script knows all of it when it is made, so that completing starts no Python. The three share one way: the words before
the cursor lead down the tree of commands to a path ("agproxy accounts add"); the flag before the cursor, if it takes a
value, decides what its value may be; else it is the commands, words and flags of that path.
"""

import argparse
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..config import BY_NAME
from .common import RawHelp

if TYPE_CHECKING:
    from .common import Commands

_DESCRIPTION = """\
Prints a script that completes commands, flags and their values. Where to put it:

  bash   source <(agproxy completions bash)          in ~/.bashrc
  zsh    source <(agproxy completions zsh)           in ~/.zshrc, after compinit
  fish   agproxy completions fish > ~/.config/fish/completions/agproxy.fish"""
_FILES, _FOLDERS = "FILES", "FOLDERS"
_PLACES = {"FILE": _FILES, "REQUEST.json": _FILES, "DIR": _FOLDERS}
_MOST_CHARACTERS = 70


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """names: as they are typed. values: None for a flag without any; else those to choose from, perhaps none that are
    known, _FILES or _FOLDERS."""

    names: tuple[str, ...]
    note: str
    values: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A command: its path, its commands and words with what they are for, its flags."""

    path: str
    words: Mapping[str, str]
    flags: tuple[Flag, ...]
    inner: "tuple[Node, ...]" = ()
    has_files: bool = False

    def walk(self) -> "Iterator[Node]":
        yield self
        for node in self.inner:
            yield from node.walk()


def add(commands: "Commands") -> None:
    parser = commands.add_parser(
        "completions",
        help="a script for bash, zsh or fish that completes commands, flags and values",
        description=_DESCRIPTION,
        formatter_class=RawHelp,
    )
    parser.add_argument("shell", choices=tuple(_SHELLS), help="for which shell")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from . import whole_parser  # which knows this module, too

    print(_SHELLS[options.shell](read(whole_parser(), "agproxy")), end="")
    return 0


# --- the tree --------------------------------------------------------------------------------------------------


def read(parser: argparse.ArgumentParser, path: str) -> Node:
    """The commands of a parser. Words that may begin a line without a command are those of `serve`."""
    words: dict[str, str] = {}
    flags: list[Flag] = []
    inner: list[Node] = []
    has_files = False
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            words |= {choice.dest: _note(choice.help) for choice in action._choices_actions}
            inner += [read(below, f"{path} {name}") for name, below in action.choices.items()]
        elif action.option_strings:
            setting = BY_NAME.get(action.dest)
            if action.help != argparse.SUPPRESS or setting is not None:
                note = setting.help if setting is not None else action.help
                flags.append(Flag(names=tuple(action.option_strings), note=_note(note), values=_values(action)))
        elif action.choices:
            words |= {str(choice): "" for choice in action.choices}
        elif action.metavar in _PLACES:
            has_files = True
    if path == "agproxy":  # a line that begins with a flag is one of `serve`
        serve = next(node for node in inner if node.path == "agproxy serve")
        known = {name for flag in flags for name in flag.names}
        flags += [flag for flag in serve.flags if not known & set(flag.names)]
    return Node(path=path, words=words, flags=tuple(flags), inner=tuple(inner), has_files=has_files)


def _values(action: argparse.Action) -> tuple[str, ...] | None:
    if action.nargs == 0:
        return None
    if action.choices:
        return tuple(map(str, action.choices))
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    if "|" in metavar:  # settings: their values are checked with those of the environment and of config.json
        return tuple(metavar.split("|"))
    if metavar in _PLACES:
        return (_PLACES[metavar],)
    return (_FILES,) if action.dest == "file" or action.dest.endswith("_file") else ()


def _note(text: str | None) -> str:
    """The beginning of a help text, on one line and without quotes: it stands between single quotes in three shells."""
    words = re.sub(r"['\\`$\"\[\]]", "", " ".join((text or "").replace("%%", "%").split()))
    begin = re.split(r"[;:(]", words)[0].strip()
    return begin if len(begin) <= _MOST_CHARACTERS else begin[:_MOST_CHARACTERS].rpartition(" ")[0]


def _by_values(nodes: Sequence[Node]) -> dict[tuple[str, ...], list[str]]:
    """What may follow flags that take a value -> "PATH FLAG" of each."""
    found: dict[tuple[str, ...], list[str]] = {}
    for node in nodes:
        for flag in node.flags:
            if flag.values is not None:
                found.setdefault(flag.values, []).extend(f"{node.path} {name}" for name in flag.names)
    return found


def _common(nodes: Sequence[Node]) -> dict[str, tuple[str, ...] | None]:
    """What may follow a flag, where that is the same at each path that has it."""
    seen: dict[str, set[tuple[str, ...] | None]] = {}
    for node in nodes:
        for flag in node.flags:
            for name in flag.names:
                seen.setdefault(name, set()).add(flag.values)
    return {name: next(iter(values)) for name, values in seen.items() if len(values) == 1}


def _cases(nodes: Sequence[Node], do: Callable[[tuple[str, ...]], str]) -> list[str]:
    """The branches of a `case "$path $prev"` of bash or zsh: those of a path first, then those of any."""
    common = _common(nodes)
    branches: dict[tuple[str, ...], dict[str, None]] = {}
    lines = []
    for values, places in _by_values(nodes).items():
        own = [f'"{place}"' for place in places if place.rpartition(" ")[2] not in common]
        if own:
            lines.append(f"{'|'.join(own)}) {do(values)}; return ;;")
        for place in places:
            if (name := place.rpartition(" ")[2]) in common:
                branches.setdefault(values, {})[name] = None
    # A flag that takes no value at one path is no flag with a value there.
    lines += [f"{'|'.join(f'*{chr(34)} {name}{chr(34)}' for name in names)}) {do(values)}; return ;;"
              for values, names in branches.items()]  # fmt: skip
    return lines


# --- bash ------------------------------------------------------------------------------------------------------

_HEAD = "# Completion of agproxy's commands, flags and values; written by `agproxy completions {}`."


def _bash(root: Node) -> str:
    nodes = list(root.walk())

    def do(values: tuple[str, ...]) -> str:
        if values == (_FILES,):
            return "_agproxy_places -f"
        if values == (_FOLDERS,):
            return "_agproxy_places -d"
        return f'COMPREPLY=($(compgen -W "{" ".join(values)}" -- "$cur"))'

    lines = [
        _HEAD.format("bash"),
        "_agproxy_places() {",
        "    local IFS=$'\\n'",
        "    compopt -o filenames 2>/dev/null",
        '    COMPREPLY=($(compgen "$1" -- "$cur"))',
        "}",
        "_agproxy() {",
        '    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} path=agproxy places="" words i',
        "    COMPREPLY=()",
        '    if [[ $cur == "=" ]]; then cur=""; elif [[ $prev == "=" ]]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi',
        "    for ((i = 1; i < COMP_CWORD; i++)); do",
        '        case "$path ${COMP_WORDS[i]}" in',
        f'            {_paths(nodes)}) path="$path ${{COMP_WORDS[i]}}" ;;',
        "        esac",
        "    done",
        '    [[ $cur == -* ]] || case "$path $prev" in',
        *(f"        {case}" for case in _cases(nodes, do)),
        "    esac",
        '    case "$path" in',
    ]
    for node in nodes:
        words = " ".join([*node.words, *(name for flag in node.flags for name in flag.names)])
        places = " places=yes" if node.has_files else ""
        lines.append(f'        "{node.path}") words="{words}"{places} ;;')
    lines += [
        "    esac",
        '    COMPREPLY=($(compgen -W "$words" -- "$cur"))',
        "    if [[ -n $places && ${#COMPREPLY[@]} -eq 0 ]]; then _agproxy_places -f; fi",
        "}",
        "complete -F _agproxy agproxy",
    ]
    return "\n".join(lines) + "\n"


def _paths(nodes: Sequence[Node]) -> str:
    return "|".join(f'"{node.path}"' for node in nodes[1:])


# --- zsh -------------------------------------------------------------------------------------------------------


def _zsh(root: Node) -> str:
    nodes = list(root.walk())

    def do(values: tuple[str, ...]) -> str:
        if values == (_FILES,):
            return "_files"
        if values == (_FOLDERS,):
            return "_files -/"
        return f"compadd -- {' '.join(values)}" if values else "_message value"

    lines = [
        "#compdef agproxy",
        _HEAD.format("zsh"),
        "_agproxy() {",
        "    local prev=$words[CURRENT-1] path_=agproxy i",
        "    local -a commands flags",
        "    if [[ $PREFIX == --*=* ]]; then prev=${PREFIX%%=*}; compset -P '*='; fi",
        "    for ((i = 2; i < CURRENT; i++)); do",
        '        case "$path_ $words[i]" in',
        f'            {_paths(nodes)}) path_="$path_ $words[i]" ;;',
        "        esac",
        "    done",
        '    [[ $PREFIX == -* ]] || case "$path_ $prev" in',
        *(f"        {case}" for case in _cases(nodes, do)),
        "    esac",
        '    case "$path_" in',
    ]
    for node in nodes:
        commands = " ".join(f"'{word}:{note}'" for word, note in node.words.items())
        flags = " ".join(f"'{name}:{flag.note}'" for flag in node.flags for name in flag.names)
        lines.append(f'        "{node.path}") commands=({commands}) flags=({flags}){"; _files" * node.has_files} ;;')
    lines += [
        "    esac",
        "    _describe -t commands command commands",
        "    if [[ $PREFIX == -* ]]; then _describe -o -t flags flag flags; fi",
        "}",
        'if [[ $funcstack[1] == _agproxy ]]; then _agproxy "$@"; else compdef _agproxy agproxy; fi',
    ]
    return "\n".join(lines) + "\n"


# --- fish ------------------------------------------------------------------------------------------------------


def _fish(root: Node) -> str:
    nodes = list(root.walk())
    lines = [
        _HEAD.format("fish"),
        "function __agproxy_at",
        "    set -l path agproxy",
        "    for word in (commandline -opc)[2..-1]",
        '        switch "$path $word"',
        f"            case {' '.join(repr(node.path) for node in nodes[1:])}",
        '                set path "$path $word"',
        "        end",
        "    end",
        '    test "$path" = "$argv[1]"',
        "end",
        "complete -c agproxy -f",
    ]
    for node in nodes:
        here = f"complete -c agproxy -n \"__agproxy_at '{node.path}'\""
        lines += [f"{here} -a {word} -d '{note}'" for word, note in node.words.items()]
        if node.has_files:
            lines.append(f"{here} -F")
        for flag in node.flags:
            names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in flag.names)
            lines.append(f"{here} {names} -d '{flag.note}'{_fish_values(flag.values)}")
    return "\n".join(lines) + "\n"


def _fish_values(values: tuple[str, ...] | None) -> str:
    if values is None:
        return ""
    if values == (_FILES,):
        return " -r -F"
    if values == (_FOLDERS,):
        return " -x -a '(__fish_complete_directories)'"
    return f" -x -a '{' '.join(values)}'" if values else " -x"


_SHELLS: dict[str, Callable[[Node], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
