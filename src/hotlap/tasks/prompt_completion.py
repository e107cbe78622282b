"""The task `prompt_completion`: prompts and completions, or conversations, from files (TRL's names and forms).

A line of a .jsonl file (or .jsonl.gz) is `{"prompt": "…", "completion": "…"}`, or `{"messages": [{"role": "user",
"content": "…"}, …]}`, or a prompt and a completion that are lists of messages. A .tsv file has two columns. The loss is
on the completion; of a conversation it is on the last turn of the assistant, or on each of them.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from hotlap.config.base import Section
from hotlap.config.tasks import PromptCompletionConfig
from hotlap.core.errors import DataError
from hotlap.tasks.chat import ANSWERER, ChatTemplate, Message
from hotlap.tasks.examples import Example, TaskData, distinct
from hotlap.tasks.sentences import matching_files

_EVAL_SHARE: Final = 50  # one example in fifty is held out
_ENDINGS: Final = (".jsonl", ".jsonl.gz", ".tsv")
_SHOWN: Final = 60  # characters of a value in a message

GetTemplate = Callable[[], ChatTemplate]


def load_prompt_completion(config: PromptCompletionConfig, tokenizer: Section, directory: Path) -> TaskData:
    """Return the examples of the task's files.

    `tokenizer` is the section that says whose chat template is used, `directory` what relative names start from.
    Raises DataError with file and line for what cannot be read or used, ConfigError for a template that cannot.
    """

    @cache
    def template() -> ChatTemplate:
        if config.chat_template is not None:
            return ChatTemplate.given(config.chat_template, directory, tokenizer)
        return ChatTemplate.own(tokenizer, directory)

    paths = matching_files(config.file, directory, "task.file")
    examples = tuple(_examples(paths, config, template))
    if config.validation_file is None:
        train, held_out = split_by_hash(examples, config.file)
        held_out_paths: list[Path] = []
    else:
        held_out_paths = matching_files(config.validation_file, directory, "task.validation_file")
        train, held_out = examples, distinct(_examples(held_out_paths, config, template))
        _check_validation(train, held_out, config)
    return TaskData(
        train=train,
        eval=held_out[: config.max_eval_samples],
        source=config.file,
        audit=held_out[config.max_eval_samples : 2 * config.max_eval_samples],
        files=(*paths, *(path for path in held_out_paths if path not in paths)),
        max_length=config.max_length,
        too_long=config.too_long,
        reads_specials=True,
    )


def split_by_hash(examples: Sequence[Example], source: str) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Return the examples to train on, as they come, and those held out, each once, in the order of their hashes.

    Where an example goes depends on its text alone, of a conversation whose every answer is learned on the first one:
    what is held out is not read before another answer either. Raises DataError for fewer than two that differ.
    """
    digests = {example: _digest(example) for example in examples}
    if len(digests) < 2:
        raise DataError(
            f"{source}: {len(digests)} example(s) that differ; one is needed to learn from and one to be evaluated on, "
            "so give more, or files to evaluate on with task.validation_file"
        )
    chosen = [example for example, digest in digests.items() if int.from_bytes(digest[:8], "big") % _EVAL_SHARE == 0]
    least = min(digests.values())
    held_out = chosen or [example for example, digest in digests.items() if digest == least]
    if len(held_out) == len(digests):
        held_out = held_out[-1:]
    is_held_out = set(held_out)
    train = tuple(example for example in examples if example not in is_held_out)
    return train, tuple(sorted(held_out, key=digests.__getitem__))


def _digest(example: Example) -> bytes:
    text = example.family or f"{example.prefix}\x1e{example.completion}"
    return hashlib.sha256(text.encode()).digest()


def _check_validation(train: Sequence[Example], held_out: Sequence[Example], config: PromptCompletionConfig) -> None:
    """Raise DataError where there is nothing to train or evaluate on, or something stands on both sides."""
    for name, examples in ((config.file, train), (config.validation_file, held_out)):
        if not examples:
            raise DataError(f"{name}: holds no example")
    places = {example: example.place for example in reversed(train)}
    shared = [example for example in held_out if example in places]
    if shared:
        raise DataError(
            f"{shared[0].place}: the example stands in the training data, too ({places[shared[0]]}), and so do "
            f"{len(shared) - 1} others of {len(held_out)}; take them out of one of the files"
        )


def _examples(paths: Sequence[Path], config: PromptCompletionConfig, template: GetTemplate) -> Iterator[Example]:
    """Yield the examples of files, line by line."""
    for path in paths:
        if not path.name.endswith(_ENDINGS):
            raise DataError(f"{path}: unknown kind of file; expected {', '.join(_ENDINGS)}")
        records = _table if path.suffix == ".tsv" else _json_lines
        for place, record in records(path, config):
            try:
                found = list(_pairs(record, config, template))
                family = "\x1e".join(found[0]) if len(found) > 1 else ""
                for prefix, completion in found:
                    yield Example(prefix, completion, place, family)
            except DataError as error:
                raise DataError(f"{place}: {error}") from error


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the lines of a file that hold something, each with its place; raises DataError where they are no text."""
    place = str(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                place = f"{path}:{number}"
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if text.strip():
                    yield place, text
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: not UTF-8 at byte {error.start} (0x{error.object[error.start]:02x})") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{place}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _json_lines(path: Path, _: PromptCompletionConfig) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for place, line in _lines(path):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DataError(f"{place}: not valid JSON: {error}; each line has to be one JSON object") from error
        except RecursionError:
            raise DataError(f"{place}: not usable JSON: too many brackets within brackets") from None
        if not isinstance(record, dict):
            raise DataError(
                f'{place}: expected a JSON object such as {{"prompt": …, "completion": …}}, got {_told(record)}'
            )
        yield place, record


def _table(path: Path, config: PromptCompletionConfig) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the rows of a tab-separated file: by the names of its first line, or a prompt and a completion each."""
    names: list[str] | None = None
    for place, line in _lines(path):
        cells = line.split("\t")
        if names is None:
            is_header = config.prompt_key in cells and config.completion_key in cells
            names = cells if is_header else [config.prompt_key, config.completion_key]
            if is_header:
                continue
        if len(cells) != len(names):
            raise DataError(f"{place}: {len(cells)} column(s), expected {len(names)}: {', '.join(names)}")
        yield place, dict(zip(names, cells, strict=True))


def _pairs(
    record: Mapping[str, Any], config: PromptCompletionConfig, template: GetTemplate
) -> Iterator[tuple[str, str]]:
    """Yield what a line gives to learn; raises DataError for what cannot be used."""
    if config.messages_key in record:
        messages = _messages(record[config.messages_key], config.messages_key)
        answers = [place for place, message in enumerate(messages) if message["role"] == ANSWERER]
        if not answers:
            raise DataError(
                f"no message of {config.messages_key!r} has the role {ANSWERER!r}: there is nothing to learn"
            )
        for place in answers if config.assistant_turns == "all" else answers[-1:]:
            yield _checked(*template().pair(messages[:place], messages[place : place + 1]))
        return
    for key in (config.prompt_key, config.completion_key):
        if key not in record:
            raise DataError(
                f"no key {key!r}, found: {', '.join(map(str, record)) or 'none'}; name it with task.prompt_key, "
                "task.completion_key or task.messages_key"
            )
    prompt, completion = record[config.prompt_key], record[config.completion_key]
    if isinstance(prompt, list) and isinstance(completion, list):
        before = _messages(prompt, config.prompt_key)
        yield _checked(*template().pair(before, _messages(completion, config.completion_key)))
        return
    for key, value in ((config.prompt_key, prompt), (config.completion_key, completion)):
        if not isinstance(value, str):
            raise DataError(f"{key!r} is {_told(value)}, expected text, or a list of messages in both")
    yield _checked(prompt, completion)


def _checked(prompt: str, completion: str) -> tuple[str, str]:
    if not completion.strip():
        raise DataError("the completion is empty: there is nothing to learn")
    if not prompt:
        raise DataError("the prompt is empty; the completion has to stand after something")
    return prompt, completion


def _messages(value: Any, key: str) -> list[Message]:
    """Return a conversation; raises DataError for anything but a list of messages with role and content."""
    if not isinstance(value, list) or not value:
        raise DataError(f'{key!r} is {_told(value)}, expected a list of messages such as {{"role": …, "content": …}}')
    for number, message in enumerate(value, 1):
        if not isinstance(message, dict):
            raise DataError(f'message {number} of {key!r} is {_told(message)}, expected {{"role": …, "content": …}}')
        for name in ("role", "content"):
            if not isinstance(message.get(name), str):
                raise DataError(f"message {number} of {key!r}: {name!r} is {_told(message.get(name))}, expected text")
    return value


def _told(value: Any) -> str:
    """Return a value as a message shows it."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
