"""Generate text with saved weights: `python -m hotlap.worker.generate RUN_FOLDER WEIGHTS CACHE PARENT`.

What to generate comes as JSON on standard input: `prompts` (none: those of the config's `samples`, or the start of a
text) and `settings` (those that differ from the config's). The answer goes to standard output as it comes, a JSON
object a line:

    {"event": "start", "settings": {…}, "device": "cpu"}
    {"event": "prompt", "text": "Once upon"}
    {"event": "text", "text": " a time"}
    {"event": "end", "tokens": 12, "ended_by": "max_new_tokens", "seconds": 0.1, "notice": ""}
    {"event": "error", "text": "what cannot be done, and what to do"}

PARENT is the pid of the process that started it, and that it ends with.
"""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from hotlap.config.load import load_config
from hotlap.config.samples import GenerationSettings, generation_settings
from hotlap.config.schema import LanguageModelConfig, RunConfig
from hotlap.config.tasks import reads_special_tokens
from hotlap.core.run_folder import RunFolder
from hotlap.data.text_stream import TextStream, prompt_tokens
from hotlap.train.generate import next_tokens, position_limit
from hotlap.train.saved import SavedSpeaker, load_speaker
from hotlap.worker.asked import answer


def main() -> int:
    """Return 0, or the exit code of the error that was printed."""
    return answer(events, places=3, advice="give fewer --max-new-tokens or a shorter prompt")


def events(run: Path, weights: Path, cache: Path, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what happens, in the order of the prompts.

    Raises ConfigError for prompts, settings or weights that do not fit, and what `load_speaker` raises.
    """
    folder = RunFolder(run)
    config = load_config(folder.config_path)
    settings = generation_settings(request["settings"], config.samples)
    facts = (folder.read("environment") or {}).get("data") or {}
    directory = Path.cwd()  # the launcher starts it in the project, wherever that is by now
    speaker = load_speaker(config, directory, cache, weights, facts.get("tokenizer"))
    start = _start(config, speaker, facts)
    texts = request["prompts"] or config.samples.prompts or [""]
    reads_specials = reads_special_tokens(config.task)
    prompts = [prompt_tokens(speaker.tokenizer, text, start, reads_specials=reads_specials) for text in texts]
    yield {"event": "start", "settings": settings.model_dump(), "device": str(speaker.device)}
    for text, prompt in zip(texts, prompts, strict=True):
        yield {"event": "prompt", "text": text}
        yield from _continued(speaker, prompt, settings)


def _start(config: RunConfig, speaker: SavedSpeaker, facts: Mapping[str, Any]) -> int | None:
    """Return the token that a text stands behind: what the run has written down, or what the kind of its task says."""
    if "document_start" in facts:
        return facts["document_start"]
    return speaker.tokenizer.document_start if isinstance(config.task, LanguageModelConfig) else None


def _continued(speaker: SavedSpeaker, prompt: Sequence[int], settings: GenerationSettings) -> Iterator[dict[str, Any]]:
    """Yield the text after one prompt, and how it ended."""
    began = time.perf_counter()
    stream = TextStream(speaker.tokenizer, prompt)
    count, ended_by = 0, "max_new_tokens"
    for (token,) in islice(next_tokens(speaker, [prompt], settings), settings.max_new_tokens):
        count += 1
        if token == speaker.tokenizer.eos:
            ended_by = "end_of_text"
            break
        if text := stream.push(token):
            yield {"event": "text", "text": text}
    if text := stream.finish():
        yield {"event": "text", "text": text}
    seconds = time.perf_counter() - began
    notice = _length_notice(speaker, len(prompt) + count - 1)
    yield {"event": "end", "tokens": count, "ended_by": ended_by, "seconds": seconds, "notice": notice}


def _length_notice(speaker: SavedSpeaker, num_read: int) -> str:
    """Say what a text that was longer than the model's positions has met with; nothing where it was not."""
    limit, trained = position_limit(speaker), getattr(speaker.config.model, "max_position_embeddings", None)
    if limit is not None and num_read > limit:
        told = "whenever they were full it forgot the older half of what it had read"
        return f"longer than the model's {limit} positions: {told}"
    if limit is None and isinstance(trained, int) and num_read > trained:
        return f"longer than the {trained} tokens that the model was trained on; its rotary positions go on"
    return ""


if __name__ == "__main__":
    sys.exit(main())
