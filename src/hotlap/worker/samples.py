"""Text that a run generates while it trains, so that people see what it has learned: `samples` in the config.

It stands in samples.jsonl, the untrained model's as step 0. It takes neither time of the training clock nor random
numbers of the training; with several devices the first one writes it.
"""

from hotlap.config.tasks import reads_special_tokens
from hotlap.core.run_folder import RunFolder
from hotlap.data.text_stream import continuation, prompt_tokens
from hotlap.train.generate import continue_rows
from hotlap.train.parts import Parts, document_start


class SampleWriter:
    """Writes down how the model goes on from the prompts of the config, at the steps that the config names."""

    def __init__(self, folder: RunFolder, parts: Parts) -> None:
        """Read the prompts; raises ConfigError for one that gives the model nothing to go on from."""
        self._folder = folder
        self._parts = parts
        self._settings = parts.config.samples
        start = document_start(parts)
        reads_specials = reads_special_tokens(parts.config.task)
        self._prompts = [
            prompt_tokens(parts.tokenizer, text, start, reads_specials=reads_specials)
            for text in self._settings.prompts
        ]
        self._last_step = -1

    def is_due(self, step: int, *, is_evaluated: bool, is_last: bool) -> bool:
        """Say whether samples are wanted at a step's end, and not written yet."""
        every = self._settings.every_steps
        is_wanted = is_last or (is_evaluated if every is None else step % every == 0)
        return bool(self._prompts) and is_wanted and step != self._last_step

    def texts(self) -> list[str]:
        """Return what the model says now, for each prompt."""
        size = self._parts.config.training.per_device_eval_batch_size
        found = []
        for first in range(0, len(self._prompts), size):
            prompts = self._prompts[first : first + size]
            rows = continue_rows(self._parts, prompts, self._settings)
            for prompt, row in zip(prompts, rows, strict=True):
                found.append(continuation(self._parts.tokenizer, prompt, row))
        return found

    def write(self, step: int, train_seconds: float, wall_seconds: float) -> None:
        """Write down what the model says after a step, with the readings of both clocks."""
        self._last_step = step
        if not self._parts.world.is_main:
            return
        position = {"step": step, "train_seconds": train_seconds, "wall_seconds": wall_seconds}
        for number, (prompt, text) in enumerate(zip(self._settings.prompts, self.texts(), strict=True)):
            said = {"prompt": prompt, "generated": text, "expected": ""}
            self._folder.append_sample({**position, **said, "prompt_index": number})
