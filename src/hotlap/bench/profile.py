"""Profile a config: its data prepared, the device held, a process that trains and watches itself, a folder in the end.

folder = profile_config(config, project, num_steps=10, num_warmup=3, say=print)
"""

from collections.abc import Callable
from contextlib import closing
from typing import Any, Final

from hotlap.config.load import config_text
from hotlap.config.schema import RunConfig
from hotlap.core.errors import NotSupportedError
from hotlap.core.profile_folder import ProfileFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.devices import run_devices
from hotlap.launch.locks import device_lock
from hotlap.launch.prepare import prepare_data
from hotlap.launch.verbs import answers, verb_command

MODULE: Final = "hotlap.worker.profile"


def profile_config(
    config: RunConfig, project: ProjectFolder, num_steps: int, num_warmup: int, say: Callable[[str], None]
) -> ProfileFolder:
    """Profile some steps of a config's training on one device; return the folder with figures and trace.

    `say` is told how far it is. Raises NotSupportedError for somebody else's command, and what building and training
    raise.
    """
    if config.command is not None:
        raise NotSupportedError(
            "hotlap profile looks into hotlap's own training; a command of your own has its own loop: wrap some of its "
            "steps in torch.profiler.profile"
        )
    if config.devices > 1:
        say(f"note: devices: {config.devices}, but one device is profiled; what they exchange is not in it")
    say(prepare_data(project.create(), config))
    folder = ProfileFolder.create(project.profiles_path)
    folder.write_config(config_text(config))
    request = {"config": config_text(config), "steps": num_steps, "warmup": num_warmup}
    command = verb_command(MODULE, project.project, project.cache_path, folder.path)
    figures: dict[str, Any] = {}
    with (
        device_lock(run_devices(use_cpu=config.training.use_cpu), say),
        closing(answers(command, request, project.project, "profiling")) as events,
    ):
        for event in events:
            if event["event"] == "stage":
                say(event["text"])
            else:
                figures = event["figures"]
    folder.write_figures({"name": config.name, **figures})
    return folder
