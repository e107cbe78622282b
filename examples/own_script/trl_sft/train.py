"""Fine-tune a tiny model with TRL's SFTTrainer on a few lines of text: settings from flags, or from a YAML file.

    python train.py --config config.yaml
    python train.py --output_dir out --learning_rate 1e-3 --max_steps 40

Model and tokenizer are built on the spot, and the rows lie beside the script: nothing is fetched. It needs trl.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer, TrlParser

ROWS = Path(__file__).parent / "rows.jsonl"


@dataclass
class ModelArguments:
    """How large the model is."""

    n_embd: int = field(default=32, metadata={"help": "width of the model"})
    dropout: float = field(default=0.1, metadata={"help": "chance that a unit is left out"})


def tokenizer_of(texts: list[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose tokens are the words of the texts."""
    words = sorted({word for text in texts for word in text.split()})
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(["<pad>", "<end>", *words])}))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")


def main() -> None:
    """Train, evaluate, and print the metrics as the Trainer does."""
    training, shape = TrlParser((SFTConfig, ModelArguments)).parse_args_and_config()
    texts = [json.loads(line)["text"] for line in ROWS.read_text(encoding="utf-8").splitlines()]
    tokenizer = tokenizer_of(texts)
    torch.manual_seed(training.seed)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=32,
        n_embd=shape.n_embd,
        n_layer=1,
        n_head=2,
        resid_pdrop=shape.dropout,
        embd_pdrop=shape.dropout,
        attn_pdrop=shape.dropout,
        bos_token_id=1,
        eos_token_id=1,
    )
    rows = Dataset.from_dict({"text": texts})
    held_out = len(texts) // 8
    trainer = SFTTrainer(
        model=GPT2LMHeadModel(config),
        args=training,
        train_dataset=rows.select(range(held_out, len(texts))),
        eval_dataset=rows.select(range(held_out)),
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.log_metrics("eval", trainer.evaluate())


if __name__ == "__main__":
    main()
