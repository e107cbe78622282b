"""Mirror a run to tensorboard: event files by tensorboard's own writer, below the run folder.

tensorboard --logdir .hotlap/runs
"""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, final

from hotlap.core.errors import import_optional
from hotlap.launch.trackers import TrackedRun

FLUSH_SECONDS: Final = 10
FOLDER_NAME: Final = "tensorboard"


@final
class TensorboardTracker:
    """Writes one event file an attempt; tensorboard itself shows the files of a folder as one run."""

    def __init__(self) -> None:
        self._events: Any = import_optional("tensorboard.compat.proto.event_pb2", "tensorboard")
        self._summaries: Any = import_optional("tensorboard.compat.proto.summary_pb2", "tensorboard")
        self._tensors: Any = import_optional("tensorboard.compat.proto.tensor_pb2", "tensorboard")
        self._shapes: Any = import_optional("tensorboard.compat.proto.tensor_shape_pb2", "tensorboard")
        self._types: Any = import_optional("tensorboard.compat.proto.types_pb2", "tensorboard")
        self._module: Any = import_optional("tensorboard.summary.writer.event_file_writer", "tensorboard")
        self._writer: Any = None

    def start(self, run: TrackedRun) -> Mapping[str, str]:
        """Open the event file, and write the config where this is the first attempt."""
        folder = run.directory / FOLDER_NAME
        self._writer = self._module.EventFileWriter(str(folder), flush_secs=FLUSH_SECONDS)
        if not run.before:
            self._text("config", json.dumps(run.config, indent=2, ensure_ascii=False), 0)
            self._writer.flush()
        return {"logdir": str(folder)}

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write one scalar for each figure."""
        values = [self._summaries.Summary.Value(tag=tag, simple_value=value) for tag, value in metrics.items()]
        self._add(values, step)

    def show(self, step: int, samples: Sequence[Mapping[str, str]]) -> None:
        """Write each sample as a text."""
        for number, sample in enumerate(samples):
            told = "\n\n".join(f"{name}:\n\n{_indented(text)}" for name, text in sample.items())
            self._add([self._text_value(f"samples/{number}", told)], step)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write how the run ended, and close the file."""
        self._text("summary", json.dumps(summary, indent=2, ensure_ascii=False), int(summary.get("step") or 0))
        self._writer.close()

    def _text(self, tag: str, text: str, step: int) -> None:
        self._add([self._text_value(tag, _indented(text))], step)

    def _text_value(self, tag: str, text: str) -> Any:
        """Return a value that tensorboard shows as text: a tensor of one string, marked for that plugin."""
        plugin = self._summaries.SummaryMetadata.PluginData(plugin_name="text")
        shape = self._shapes.TensorShapeProto(dim=[self._shapes.TensorShapeProto.Dim(size=1)])
        tensor = self._tensors.TensorProto(
            dtype=self._types.DT_STRING, string_val=[text.encode("utf-8")], tensor_shape=shape
        )
        metadata = self._summaries.SummaryMetadata(plugin_data=plugin)
        return self._summaries.Summary.Value(tag=f"{tag}/text_summary", metadata=metadata, tensor=tensor)

    def _add(self, values: Sequence[Any], step: int) -> None:
        summary = self._summaries.Summary(value=values)
        self._writer.add_event(self._events.Event(wall_time=time.time(), step=step, summary=summary))


def _indented(text: str) -> str:
    """Return a text as a block that Markdown shows as it is."""
    return "\n".join(f"    {line}" for line in text.splitlines()) or "    "
