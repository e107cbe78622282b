"""Train a tiny GPT-2 with Hugging Face's Trainer: settings from the command line, or from one YAML file.

    python train.py --output_dir out --learning_rate 1e-3 --max_steps 60
    python train.py config.yaml

The text is made up on the spot: a sentence is a word, repeated. It needs torch and transformers, and no network.
"""

import random
import sys
from dataclasses import dataclass, field

import torch
from transformers import GPT2Config, GPT2LMHeadModel, HfArgumentParser, Trainer, TrainingArguments


@dataclass
class ModelArguments:
    """How large the model is."""

    n_embd: int = field(default=32, metadata={"help": "width of the model"})
    n_layer: int = field(default=1, metadata={"help": "number of layers"})
    dropout: float = field(default=0.1, metadata={"help": "chance that a unit is left out"})


class Sentences(torch.utils.data.Dataset):
    """Sentences that repeat a word, as numbers of letters."""

    def __init__(self, count: int, seed: int) -> None:
        generator = random.Random(seed)
        words = ["".join(generator.choices("abcdefgh", k=3)) for _ in range(count)]
        self.rows = [torch.tensor([ord(letter) - 96 for letter in (word + " ") * 4 if letter != " "]) for word in words]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.rows[index], "labels": self.rows[index]}


def main() -> None:
    """Train, evaluate, and print the metrics as the Trainer does."""
    parser = HfArgumentParser((TrainingArguments, ModelArguments))
    if len(sys.argv) == 2 and sys.argv[1].endswith((".yaml", ".yml")):
        training, shape = parser.parse_yaml_file(sys.argv[1])
    else:
        training, shape = parser.parse_args_into_dataclasses()
    torch.manual_seed(training.seed)
    config = GPT2Config(
        vocab_size=32,
        n_positions=16,
        n_embd=shape.n_embd,
        n_layer=shape.n_layer,
        n_head=2,
        resid_pdrop=shape.dropout,
        embd_pdrop=shape.dropout,
        attn_pdrop=shape.dropout,
        bos_token_id=0,
        eos_token_id=0,
    )
    trainer = Trainer(
        model=GPT2LMHeadModel(config), args=training, train_dataset=Sentences(512, 1), eval_dataset=Sentences(64, 2)
    )
    trainer.train()
    trainer.log_metrics("eval", trainer.evaluate())


if __name__ == "__main__":
    main()
