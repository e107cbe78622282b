"""The task prompt_completion: its files, its split, and what it refuses with file and line."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from hotlap.config.tasks import PromptCompletionConfig
from hotlap.config.tokenizers import ByteTokenizerConfig
from hotlap.core.errors import DataError
from hotlap.tasks.examples import Example, TaskData, num_shared
from hotlap.tasks.prompt_completion import load_prompt_completion, split_by_hash


def load(folder: Path, file: str = "data.jsonl", **settings: Any) -> TaskData:
    return load_prompt_completion(PromptCompletionConfig(file=file, **settings), ByteTokenizerConfig(), folder)


def write(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records), encoding="utf-8")
    return path


def pairs(count: int) -> list[dict[str, str]]:
    return [{"prompt": f"{number}+1=", "completion": str(number + 1)} for number in range(count)]


def test_a_line_is_an_example_and_knows_its_place(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", pairs(300))
    task = load(tmp_path)
    found = [*task.train, *task.eval]
    assert set(found) == {Example(f"{number}+1=", str(number + 1)) for number in range(300)}
    assert {example.place for example in found} == {f"{path}:{line}" for line in range(1, 301)}
    assert [int(example.completion) for example in task.train] == sorted(int(e.completion) for e in task.train)
    assert (task.source, task.files) == ("data.jsonl", (path,))


def test_keys_may_be_called_otherwise(tmp_path: Path) -> None:
    write(tmp_path / "data.jsonl", [{"question": f"q{n}", "answer": "é", "id": n} for n in range(3)])
    task = load(tmp_path, prompt_key="question", completion_key="answer")
    assert {example.completion for example in (*task.train, *task.eval)} == {"é"}


def test_tables_and_packed_files_hold_the_same(tmp_path: Path) -> None:
    lines = [f"{record['prompt']}\t{record['completion']}" for record in pairs(60)]
    (tmp_path / "plain.tsv").write_text("\n".join(lines))
    (tmp_path / "named.tsv").write_text(
        "\r\n".join(["completion\tn\tprompt", *(f"{n + 1}\t{n}\t{n}+1=" for n in range(60))])
    )
    write(tmp_path / "data.jsonl", pairs(60))
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress((tmp_path / "data.jsonl").read_bytes()))
    hashes = {load(tmp_path, name).hash for name in ("plain.tsv", "named.tsv", "data.jsonl", "packed.jsonl.gz")}
    assert len(hashes) == 1


def test_several_files_and_a_byte_order_mark(tmp_path: Path) -> None:
    for number in range(3):
        line = json.dumps({"prompt": f"p{number}", "completion": "c"})
        (tmp_path / f"{number}.jsonl").write_text(f"\ufeff{line}\n\n", encoding="utf-8")
    assert len(load(tmp_path, "*.jsonl").train) == 2


def test_the_split_depends_on_the_examples_alone() -> None:
    examples = [Example(f"p{number}", "c") for number in range(2000)]
    train, held_out = split_by_hash(examples, "s")
    assert 20 < len(held_out) < 65
    assert set(train) | set(held_out) == set(examples)
    assert not set(train) & set(held_out)
    more, others = split_by_hash([*reversed(examples), *examples[:50], Example("new", "c")], "s")
    assert set(held_out) <= set(others), "what is held out stays so when the data grow"
    assert len(more) + len(others) == 2051 - sum(example in set(others) for example in examples[:50])


def test_evaluation_and_audit_are_held_out(tmp_path: Path) -> None:
    write(tmp_path / "data.jsonl", pairs(1000))
    task = load(tmp_path, max_eval_samples=5)
    assert (len(task.eval), len(task.audit)) == (5, 5)
    assert not {*task.eval, *task.audit} & set(task.train)
    assert num_shared(task) == 0


def test_a_file_to_evaluate_on(tmp_path: Path) -> None:
    write(tmp_path / "data.jsonl", pairs(40))
    path = write(tmp_path / "held.jsonl", [{"prompt": f"{n}?", "completion": "x"} for n in (3, 1, 2, 3)])
    task = load(tmp_path, validation_file="held.jsonl", max_eval_samples=2)
    assert len(task.train) == 40
    assert [example.prefix for example in task.eval] == ["3?", "1?"]
    assert [example.prefix for example in task.audit] == ["2?"]
    assert path in task.files


def test_what_stands_on_both_sides_is_told_with_both_places(tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", pairs(40))
    held = write(tmp_path / "held.jsonl", [{"prompt": "new", "completion": "1"}, *pairs(2)])
    with pytest.raises(DataError) as raised:
        load(tmp_path, validation_file="held.jsonl")
    assert str(raised.value).startswith(
        f"{held}:2: the example stands in the training data, too ({data}:1), and so do 1 others of 3"
    )


def test_conversations_are_learned_by_their_last_answer_or_by_all(tmp_path: Path) -> None:
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Bye"), ("assistant", "Ciao")]
    messages = [{"role": role, "content": content} for role, content in turns]
    trailing = [*messages, {"role": "user", "content": "Still there?"}]
    write(tmp_path / "data.jsonl", [{"messages": trailing}, *({"messages": messages[1:3]} for _ in range(2))])
    last = load(tmp_path)
    start = "system: Be brief.\nuser: Hi\nassistant: "
    whole = f"{start}Hello\nuser: Bye\nassistant: "
    assert {*last.train, *last.eval} == {Example(whole, "Ciao"), Example("user: Hi\nassistant: ", "Hello")}
    every = load(tmp_path, assistant_turns="all")
    assert {*every.train, *every.eval, *every.audit} == {
        Example(start, "Hello"),
        Example(whole, "Ciao"),
        Example("user: Hi\nassistant: ", "Hello"),
    }


def test_a_conversation_whose_every_answer_is_learned_is_held_out_as_a_whole(tmp_path: Path) -> None:
    def conversation(number: int) -> dict[str, Any]:
        turns = [("user", f"question {number}"), ("assistant", "one"), ("user", "more"), ("assistant", "two")]
        return {"messages": [{"role": role, "content": content} for role, content in turns]}

    write(tmp_path / "data.jsonl", [conversation(number) for number in range(300)])
    task = load(tmp_path, assistant_turns="all", max_eval_samples=500)
    assert len(task.eval) >= 4
    assert len(task.train) + len(task.eval) == 600
    read = {example.prefix.partition("\n")[0] for example in task.train}
    assert not read & {example.prefix.partition("\n")[0] for example in task.eval}
    write(tmp_path / "one.jsonl", [conversation(0)])
    alone = load(tmp_path, "one.jsonl", assistant_turns="all")
    assert ([each.completion for each in alone.train], [each.completion for each in alone.eval]) == (["one"], ["two"])


def test_prompts_and_completions_may_be_conversations(tmp_path: Path) -> None:
    user, answer = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
    write(tmp_path / "data.jsonl", [{"prompt": [user], "completion": [answer]}, *pairs(1)])
    task = load(tmp_path)
    assert Example("user: Hi\nassistant: ", "Hello") in {*task.train, *task.eval}


GOOD = '{"prompt": "p", "completion": "c"}'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "p", "completion": "c"', "not valid JSON: .*; each line has to be one JSON object"),
        ("[1]", r"expected a JSON object such as .*, got \[1\]"),
        ('{"prompt": "p", "answer": "c"}', "no key 'completion', found: prompt, answer; name it with task.prompt_key"),
        ('{"prompt": 3, "completion": "c"}', "'prompt' is 3, expected text, or a list of messages in both"),
        ('{"prompt": "p", "completion": ["c"]}', r"'completion' is \[\"c\"\], expected text"),
        ('{"prompt": "p", "completion": " "}', "the completion is empty: there is nothing to learn"),
        ('{"prompt": "", "completion": "c"}', "the prompt is empty; the completion has to stand after something"),
        ('{"messages": []}', r"'messages' is \[\], expected a list of messages"),
        ('{"messages": ["hi"]}', "message 1 of 'messages' is \"hi\", expected"),
        ('{"messages": [{"role": "user"}]}', "message 1 of 'messages': 'content' is null, expected text"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "no message of 'messages' has the role 'assistant'"),
        ("\udcff", r"not UTF-8 at byte 0 \(0xff\)"),
        ("[" * 100_000, "not usable JSON|not valid JSON"),
    ],
)
def test_what_cannot_be_used_is_told_with_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes("\n".join([GOOD, "", line, GOOD]).encode("utf-8", errors="surrogateescape"))
    with pytest.raises(DataError) as raised:
        load(tmp_path)
    assert re.fullmatch(rf"{re.escape(str(path))}:3: ({message}).*", str(raised.value))


def test_files_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"task\.file: no file matches 'data\.jsonl'"):
        load(tmp_path)
    write(tmp_path / "data.jsonl", pairs(1) * 5)
    with pytest.raises(
        DataError, match=r"data\.jsonl: 1 example\(s\) that differ; one is needed to learn from and one"
    ):
        load(tmp_path)
    with pytest.raises(DataError, match=r"task\.validation_file: no file matches 'v\.jsonl'"):
        load(tmp_path, validation_file="v.jsonl")
    (tmp_path / "v.jsonl").write_text("\n")
    with pytest.raises(DataError, match=r"v\.jsonl: holds no example"):
        load(tmp_path, validation_file="v.jsonl")
    (tmp_path / "data.csv").write_text("a,b\n")
    with pytest.raises(DataError, match=r"data\.csv: unknown kind of file; expected \.jsonl, \.jsonl\.gz, \.tsv"):
        load(tmp_path, "data.csv")
    (tmp_path / "bad.tsv").write_text("a\tb\nc\n")
    with pytest.raises(DataError, match=r"bad\.tsv:2: 1 column\(s\), expected 2: prompt, completion"):
        load(tmp_path, "bad.tsv")
    (tmp_path / "bad.jsonl.gz").write_bytes(gzip.compress(b'{"prompt": "p", "completion": "c"}\n' * 99)[:-12])
    with pytest.raises(DataError, match=r"bad\.jsonl\.gz.*: cannot be read: "):
        load(tmp_path, "bad.jsonl.gz")
