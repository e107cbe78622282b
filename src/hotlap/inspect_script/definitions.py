"""Which command-line settings a Python script defines, read from its syntax tree; nothing of it is imported or run.

    for option in options_in(Path("train.py").read_text()):
        option.name, option.flag, option.default

It knows argparse, dataclasses (HfArgumentParser, tyro, simple_parsing), typer, click, absl and nanoGPT's configurator.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from hotlap.inspect_script.syntax import (
    Kind,
    Option,
    calls,
    choices_in,
    imports,
    keywords,
    literal,
    name_of,
    parsed,
    plain,
    text_in,
)

_PARSERS_OF_CLASSES: Final = (
    "HfArgumentParser",
    "TrlParser",
    "cli",
    "parse",
    "ArgumentParser",
    "add_arguments",
    "tyro",
)
_MOST_NESTED: Final = 3
_TRAINER_CLASSES: Final = (
    *(
        "TrainingArguments",
        "Seq2SeqTrainingArguments",
        "SFTConfig",
        "DPOConfig",
        "GRPOConfig",
        "RewardConfig",
        "ORPOConfig",
    ),
)


def options_in(text: str) -> list[Option]:
    """Return every option that a script defines, each name once; none where the text is no Python."""
    tree = parsed(text)
    if tree is None:
        return []
    found: dict[str, Option] = {}
    for reader in (_argparse, _absl, _decorated, _functions, _dataclasses, _configurator):
        for option in reader(tree):
            found.setdefault(option.name, option)
    return list(found.values())


def trainer_arguments_of(text: str) -> str | None:
    """Return which class of Hugging Face's TrainingArguments a script parses from its command line; None for none."""
    tree = parsed(text)
    if tree is None:
        return None
    for call in calls(tree):
        if name_of(call.func) in ("HfArgumentParser", "TrlParser"):
            names = {name_of(node) for argument in call.args for node in ast.walk(argument)}
            bases = {
                base
                for node in ast.walk(tree)
                if isinstance(node, ast.ClassDef) and node.name in names
                for base in map(name_of, node.bases)
            }
            return next((name for name in reversed(_TRAINER_CLASSES) if name in {*names, *bases}), None)
    return None


def variables_in(text: str) -> dict[str, Any]:
    """Return the environment variables that a script reads, with their defaults: `os.environ.get("LR", "0.1")`.

    One without a default, or with one that has to be computed, is None.
    """
    tree = parsed(text)
    if tree is None:
        return {}
    found: dict[str, Any] = {}
    for name in _variables_needed(tree):
        found[name] = None
    for call in calls(tree):
        is_reading = name_of(call.func) == "getenv" or (
            name_of(call.func) == "get"
            and isinstance(call.func, ast.Attribute)
            and name_of(call.func.value) == "environ"
        )
        if is_reading and len(call.args) == 2:
            name, default = map(literal, call.args)
            if isinstance(name, str) and plain(default) is not None:
                found[name] = _read(default)
    return found


def _variables_needed(tree: ast.Module) -> Iterator[str]:
    """Yield the variables that a script reads without a default: `os.environ["CONFIG"]`, `os.getenv("CONFIG")`."""
    for node in ast.walk(tree):
        name: Any = None
        if isinstance(node, ast.Subscript) and name_of(node.value) == "environ":
            name = literal(node.slice)
        elif isinstance(node, ast.Call) and name_of(node.func) == "getenv" and len(node.args) == 1:
            name = literal(node.args[0])
        if isinstance(name, str):
            yield name


def _read(value: Any) -> Any:
    """Return the number that a text is, else the value as it is."""
    for kind in (int, float):
        try:
            return kind(value) if isinstance(value, str) else value
        except ValueError:
            continue
    return value


def has_subcommands(text: str) -> bool:
    """Say whether a script's options depend on a subcommand, so that none can be added to a command line."""
    is_group = len(re.findall(r"^@\w+\.command\b", text, re.MULTILINE)) > 1
    return "add_subparsers" in text or ".add_typer(" in text or is_group


def _argparse(tree: ast.Module) -> Iterator[Option]:
    later = _later_defaults(tree)
    for option in _arguments(tree):
        if later is None:
            yield replace(option, default=None)
        else:
            yield replace(option, default=later[option.name]) if option.name in later else option


def _later_defaults(tree: ast.Module) -> dict[str, Any] | None:
    """Return the defaults that `set_defaults(…)` puts in the place of the first ones; None where all may be others."""
    found: dict[str, Any] = {}
    for call in calls(tree):
        if name_of(call.func) == "set_defaults":
            if any(keyword.arg is None for keyword in call.keywords):
                return None  # set_defaults(**settings): those of a file, mostly
            found |= {name: plain(literal(value)) for name, value in keywords(call).items()}
    return found


def _arguments(tree: ast.Module) -> Iterator[Option]:
    for call in calls(tree):
        if name_of(call.func) != "add_argument":
            continue
        flags = [text for text in map(literal, call.args) if isinstance(text, str) and text.startswith("-")]
        if not flags:
            continue
        flag = next((text for text in flags if text.startswith("--")), flags[0])
        given = keywords(call)
        action = literal(given.get("action")) or name_of(given.get("action", ast.Constant(value=None)))
        if action not in ("store", "store_true", "store_false", "BooleanOptionalAction", ""):
            continue
        if action == "store_false" or name_of(given.get("type", ast.Constant(value=None))) == "bool":
            continue  # bool("False") is true
        kind: Kind = {"store_true": "switch", "BooleanOptionalAction": "pair"}.get(action, "value")  # type: ignore[assignment]
        default = plain(literal(given.get("default")))
        if kind == "switch" and default:
            continue  # nothing turns it off
        yield Option(
            name=flag.lstrip("-").replace("-", "_"),
            flag=flag,
            default=bool(default) if kind in ("switch", "pair") else default,
            kind=kind,
            help=text_in(given.get("help")),
            choices=choices_in(given.get("choices")),
            line=call.lineno,
            source="argparse",
        )


def _absl(tree: ast.Module) -> Iterator[Option]:
    for call in calls(tree):
        kind = name_of(call.func)
        if not kind.startswith("DEFINE_") or len(call.args) < 2:
            continue
        name = literal(call.args[0])
        if kind[7:] not in ("float", "integer", "string", "bool", "boolean", "enum") or not isinstance(name, str):
            continue
        choices = choices_in(call.args[2]) if kind == "DEFINE_enum" and len(call.args) > 2 else ()
        position = 3 if kind == "DEFINE_enum" else 2
        yield Option(
            name=name,
            flag=f"--{name}",
            default=plain(literal(call.args[1])),
            kind="equals",
            help=text_in(call.args[position] if len(call.args) > position else None),
            choices=choices,
            line=call.lineno,
            source="absl",
        )


def _decorated(tree: ast.Module) -> Iterator[Option]:
    """Yield the options of click's decorators."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef):
            continue
        for call in node.decorator_list:
            if not isinstance(call, ast.Call) or name_of(call.func) != "option":
                continue
            flags = [text for text in map(literal, call.args) if isinstance(text, str) and text.startswith("-")]
            if not flags:
                continue
            flag = next((text for text in flags if text.startswith("--")), flags[0])
            given = keywords(call)
            is_pair, is_switch = "/" in flag, literal(given.get("is_flag")) is True
            flag = flag.partition("/")[0]
            default = plain(literal(given.get("default")))
            kinds = given.get("type")
            yield Option(
                name=flag.lstrip("-").replace("-", "_"),
                flag=flag,
                default=bool(default) if is_pair or is_switch else default,
                kind="pair" if is_pair else "switch" if is_switch else "value",
                help=text_in(given.get("help")),
                choices=choices_in(kinds.args[0]) if isinstance(kinds, ast.Call) and kinds.args else (),
                line=call.lineno,
                source="click",
            )


def _functions(tree: ast.Module) -> Iterator[Option]:
    """Yield the parameters of functions that typer, fire, defopt or tyro makes commands of."""
    source = next((name for name in ("typer", "fire", "defopt", "tyro") if imports(tree, name)), None)
    if source is None:
        return
    run = {name_of(call.args[0]) for call in calls(tree) if name_of(call.func) in ("run", "Fire", "cli") and call.args}
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef):
            continue
        is_command = any(name_of(decorator) in ("command", "callback") for decorator in node.decorator_list)
        if is_command or node.name in run:
            yield from _parameters(node, source)


def _parameters(function: ast.FunctionDef, source: str) -> Iterator[Option]:
    arguments = [*function.args.args, *function.args.kwonlyargs]
    positional = function.args.args
    defaults: dict[str, ast.expr | None] = dict(
        zip(
            [argument.arg for argument in positional[len(positional) - len(function.args.defaults) :]],
            function.args.defaults,
            strict=True,
        )
    )
    defaults |= {
        argument.arg: value for argument, value in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    }
    for argument in arguments:
        default, note = defaults.get(argument.arg), argument.annotation
        inner = [call for node in (default, note) if node is not None for call in calls(node)]
        if any(name_of(call) == "Argument" for call in inner):
            continue
        call = next((call for call in inner if name_of(call) == "Option"), None)
        names = (
            [text for text in map(literal, call.args) if isinstance(text, str) and text.startswith("--")]
            if call
            else []
        )
        if call is not None and call is default:
            default = call.args[0] if call.args else None
        value = plain(literal(default))
        if default is None or (value is None and call is None):
            continue
        flag = names[0] if names else f"--{argument.arg.replace('_', '-')}"
        yield Option(
            name=argument.arg,
            flag=flag.partition("/")[0],
            default=value,
            kind="equals" if source == "fire" else "pair" if isinstance(value, bool) else "value",
            help=text_in(keywords(call).get("help")) if call else "",
            line=argument.lineno,
            source=source,
        )


def _dataclasses(tree: ast.Module) -> Iterator[Option]:
    """Yield the fields of dataclasses that something makes options of."""
    parsers = [call for call in calls(tree) if name_of(call.func) in _PARSERS_OF_CLASSES]
    named = {name_of(node) for call in parsers for argument in call.args for node in ast.walk(argument)}
    classes = {
        node.name: node
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and any(name_of(one) == "dataclass" for one in node.decorator_list)
    }
    source = "tyro" if imports(tree, "tyro") else "dataclass"
    for name, node in classes.items():
        if name in named:
            yield from _fields(node, classes if source == "tyro" else {}, source)


def _fields(node: ast.ClassDef, classes: Mapping[str, ast.ClassDef], source: str, prefix: str = "") -> Iterator[Option]:
    """Yield the fields of a dataclass, and as `--outer.inner` those of dataclasses in it where the library has them."""
    for statement in node.body:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        name = f"{prefix}{statement.target.id}"
        inner = classes.get(name_of(statement.annotation))
        if inner is None:
            yield _field(statement, name, source)
        elif name.count(".") < _MOST_NESTED:
            yield from _fields(inner, classes, source, f"{name}.")


def _field(statement: ast.AnnAssign, name: str, source: str) -> Option:
    value, text = statement.value, ""
    if isinstance(value, ast.Call) and name_of(value.func) == "field":
        given = keywords(value)
        metadata = literal(given.get("metadata"))
        text = str(metadata.get("help", "")) if isinstance(metadata, dict) else ""
        value = given.get("default")
    default = plain(literal(value))
    is_tyro = source == "tyro"
    choices = choices_in(statement.annotation.slice) if name_of(statement.annotation) == "Literal" else ()  # type: ignore[attr-defined]
    return Option(
        name=name,
        flag=f"--{name.replace('_', '-') if is_tyro else name}",
        default=default,
        kind="pair" if is_tyro and isinstance(default, bool) else "value",
        help=" ".join(text.split()),
        choices=choices,
        line=statement.lineno,
        source=source,
    )


def _configurator(tree: ast.Module) -> Iterator[Option]:
    """Yield the module constants of a script that lets `--name=value` overwrite them, as nanoGPT does."""
    if not any(_opens_configurator(call) for call in calls(tree)):
        return
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            name, value = name_of(statement.targets[0]), plain(literal(statement.value))
            if name and not name.startswith("_") and value is not None and isinstance(statement.targets[0], ast.Name):
                yield Option(
                    name=name,
                    flag=f"--{name}",
                    default=value,
                    kind="equals",
                    line=statement.lineno,
                    source="configurator",
                )


def _opens_configurator(call: ast.Call) -> bool:
    if name_of(call.func) != "exec" or not call.args:
        return False
    return any("configurator" in str(node.value) for node in ast.walk(call) if isinstance(node, ast.Constant))
