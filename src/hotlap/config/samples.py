"""How text is generated: the section `samples`, and the same settings on the command line."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, ValidationError

from hotlap.config.base import Section
from hotlap.core.errors import ConfigError

AT_EVALUATIONS: Final = "evaluation"
_STEPS: Final = re.compile(r"([1-9]\d*)( steps?)?")


def _check_every(value: Any) -> str:
    text = " ".join(str(value).split())
    match = _STEPS.fullmatch(text)
    if text != AT_EVALUATIONS and match is None:
        raise ValueError(f"expected {AT_EVALUATIONS}, or a number of steps such as 500 steps")
    return f"{match[1]} steps" if match else text


class GenerationSettings(Section):
    """How the next token is chosen, and how many there are."""

    max_new_tokens: int = Field(64, ge=1)
    """Tokens generated for a prompt, at most: a text ends sooner where the model ends it."""
    temperature: float = Field(0.0, ge=0)
    """What the logits are divided by before a token is drawn; 0 takes the likeliest one."""
    top_k: int | None = Field(None, ge=1)
    """Draw from so many of the likeliest tokens; absent: from all."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Draw from the likeliest tokens that have this probability together (nucleus sampling, arXiv 1904.09751)."""
    seed: int = Field(0, ge=0)
    """Of the draws: with the same seed a prompt has the same text, whatever other prompts stand beside it."""


class SamplesConfig(GenerationSettings):
    """Text that is generated during training, off the training clock, and kept in samples.jsonl."""

    prompts: tuple[str, ...] = ()
    """Texts to go on from; without any nothing is generated. The untrained model's answers are kept, too."""
    every: Annotated[str, BeforeValidator(_check_every)] = AT_EVALUATIONS
    """When: evaluation, or so many steps, such as 500 steps; after the last step in any case."""

    @property
    def every_steps(self) -> int | None:
        """The steps between two samples, None where they come with the evaluations."""
        return None if self.every == AT_EVALUATIONS else int(self.every.split()[0])


def generation_settings(given: Mapping[str, Any], otherwise: GenerationSettings | None = None) -> GenerationSettings:
    """Return settings as they were given on the command line; what was left out is as in `otherwise`.

    Raises ConfigError with the option and what it takes.
    """
    known = {} if otherwise is None else otherwise.model_dump(include=set(GenerationSettings.model_fields))
    try:
        return GenerationSettings.model_validate({**known, **given})
    except ValidationError as error:
        told = [
            f"--{str(problem['loc'][0]).replace('_', '-')}: {problem['msg']}, got {problem['input']}"
            for problem in error.errors()
        ]
        raise ConfigError("; ".join(told)) from error
