"""A language model over words of bytes, after WeLT (sign/WeLT, Moryosef et al.).

A bytes encoder reads each word by itself, both ways, to one vector; a transformer runs over the words; from each of its
states a bytes decoder writes the word that follows, one byte after the other. Bytes are the only vocabulary; PAD, BOS
and EOS are control characters among them.

Shapes: B rows, W words of the longest row, D width of the transformer over words, n words of a group, L places of each
of them, V = 256 bytes. What the batches hold is described by the protocols below, which `data/word_batches.py` fills.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hotlap.config.models import GPTConfig
from hotlap.config.word_latent import PartShape, WordLatentConfig
from hotlap.models.few_sizes import filled
from hotlap.models.fused import rms_norm
from hotlap.models.gpt import KeyValueCache
from hotlap.models.word_blocks import Rows, RowTransformer

NUM_BYTES = 256
PAD, BOS, EOS = 0, 2, 3
IGNORED = -100
"""The target of padding."""


class WordGroup(Protocol):
    """Words that are encoded together."""

    @property
    def ids(self) -> Tensor:
        """(n, L) int64: BOS, bytes, EOS; PAD behind shorter ones where they are padded."""

    @property
    def is_real(self) -> Tensor | None:
        """(n, L) bool; None: nothing is padding."""


class TargetGroup(Protocol):
    """Words that are decoded together."""

    @property
    def input_ids(self) -> Tensor:
        """(n, L) int64: BOS and the bytes."""

    @property
    def targets(self) -> Tensor:
        """(n, L) int64: the bytes and EOS; -100 where nothing is learned."""

    @property
    def latents(self) -> Tensor:
        """(n,) int64: places in the flattened (B·W) whose states these words are written from."""


class WordBatch(Protocol):
    """One forward pass."""

    @property
    def words(self) -> Sequence[WordGroup]:
        """What is encoded."""

    @property
    def word_at(self) -> Tensor:
        """(B, W) int64: row in the words of all groups together; padding, on the right, points at some word."""

    @property
    def blocks(self) -> Tensor | None:
        """(B, W) int64: number of the shift block that a word is in, -1 outside; None: there are none."""

    @property
    def targets(self) -> Sequence[TargetGroup]:
        """What is decoded."""


class WordLatent(nn.Module):
    """The model: `latents` gives a state for each word, `logits` what it means for the next word's bytes."""

    def __init__(self, config: WordLatentConfig, *, gradient_checkpointing: bool = False) -> None:
        """Build the model; with `gradient_checkpointing` a block keeps its input only and runs again backwards."""
        super().__init__()
        self.config = config
        self.vocab_size = NUM_BYTES

        def transformer(shape: PartShape) -> RowTransformer:
            return RowTransformer(_as_gpt(config, shape), gradient_checkpointing=gradient_checkpointing)

        widths = (config.encoder.hidden_size, config.latent.hidden_size, config.decoder.hidden_size)
        self.encoder_embedding = nn.Embedding(NUM_BYTES, widths[0])
        self.encoder = transformer(config.encoder)
        self.encoder_mapping = nn.Linear(widths[0], widths[1], bias=config.use_bias)
        self.latent = transformer(config.latent)
        self.decoder_mapping = nn.Linear(widths[1], widths[2], bias=config.use_bias)
        self.decoder_embedding = nn.Embedding(NUM_BYTES, widths[2])
        self.decoder = transformer(config.decoder)
        self.head = nn.Linear(widths[2], NUM_BYTES, bias=False)
        self._initialise()

    def _initialise(self) -> None:
        config = self.config
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=config.initializer_range)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        if config.zero_init_projections:
            for name, weight in self.named_parameters():
                if name.endswith("projection.weight"):
                    nn.init.zeros_(weight)
            nn.init.zeros_(self.head.weight)

    def encode(self, words: Sequence[WordGroup]) -> Tensor:
        """Return the vectors (n of all groups, D) of words, each read by itself from its BOS."""
        ids = torch.cat([group.ids.flatten() for group in words])
        x = self.encoder_embedding(ids)
        groups = [Rows(group.ids.shape[0], group.ids.shape[1], _word_mask(group.is_real)) for group in words]
        starts = _row_starts(groups, ids.device)
        states = self.encoder(x, groups, is_causal=False, chosen=filled(starts))
        return rms_norm(self.encoder_mapping(states))[: len(starts)]

    def latents(self, batch: WordBatch) -> Tensor:
        """Return the state of each word of a batch, (B, W, D): what is known once it was read."""
        vectors = self.encode(batch.words).index_select(0, batch.word_at.flatten())
        mask = None if batch.blocks is None else block_mask(batch.blocks)
        return self.over_words(vectors.unflatten(0, batch.word_at.shape), mask)

    def over_words(
        self,
        vectors: Tensor,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Return the states (B, W, D) of words by their vectors (B, W, D).

        `mask` (B, 1, W, W_all) is True where a word may look; None means back. `positions` (B, W) default to 0, 1, …;
        `cache` holds the words before these.
        """
        rows, length, _ = vectors.shape
        places = None if positions is None else positions.flatten()
        states = self.latent(
            vectors.flatten(0, 1), [Rows(rows, length, mask)], is_causal=True, positions=places, cache=cache
        )
        return states.unflatten(0, (rows, length))

    def logits(self, latents: Tensor, input_ids: Tensor) -> Tensor:
        """Return the logits (n, L, V) of the bytes of words that follow latents (n, D), given input_ids (n, L)."""
        return self._decode(rms_norm(self.decoder_mapping(latents)), [input_ids]).view(*input_ids.shape, NUM_BYTES)

    def first_byte(self, latents: Tensor, cache: KeyValueCache) -> Tensor:
        """Return the logits (n, V) of the first byte of words that follow latents (n, D)."""
        mapped = rms_norm(self.decoder_mapping(latents))
        beginnings = torch.full((len(latents), 1), BOS, device=latents.device)
        return self._decode(mapped, [beginnings], cache)

    def next_byte(self, written: Tensor, place: int, cache: KeyValueCache) -> Tensor:
        """Return the logits (n, V) of the byte after `written` (n,), which is byte number `place` of its word."""
        positions = torch.full((len(written),), place + 2, device=written.device)
        groups = [Rows(len(written), 1)]
        return self.head(
            self.decoder(self.decoder_embedding(written), groups, is_causal=True, positions=positions, cache=cache)
        )

    def predictions(self, batch: WordBatch) -> Iterator[tuple[Tensor, TargetGroup]]:
        """Yield the logits (n, L, V) of each group of targets, in their order."""
        logits = self._target_logits(batch).split([group.targets.numel() for group in batch.targets])
        for found, group in zip(logits, batch.targets, strict=True):
            yield found.view(*group.targets.shape, NUM_BYTES), group

    def loss(self, batch: WordBatch, label_smoothing: float = 0.0) -> Tensor:
        """Return the sum over target bytes, the EOS of each word among them, of their cross-entropy in nats, fp32."""
        targets = torch.cat([group.targets.flatten() for group in batch.targets])
        logits = self._target_logits(batch).float()
        return F.cross_entropy(logits, targets, reduction="sum", ignore_index=IGNORED, label_smoothing=label_smoothing)

    def _target_logits(self, batch: WordBatch) -> Tensor:
        """Return the logits of the places of all target groups one after the other, (N, V)."""
        states = self.latents(batch).flatten(0, 1)
        wanted = torch.cat([group.latents for group in batch.targets])
        mapped = rms_norm(self.decoder_mapping(states.index_select(0, filled(wanted))))[: len(wanted)]
        return self._decode(mapped, [group.input_ids for group in batch.targets])

    def _decode(self, mapped: Tensor, inputs: Sequence[Tensor], cache: KeyValueCache | None = None) -> Tensor:
        """Return the logits (N, V) of the places of groups of words (n, L), each word after its vector of `mapped`."""
        ids = torch.cat([group.flatten() for group in inputs])
        embedded = self.decoder_embedding(ids).split([group.numel() for group in inputs])
        firsts = mapped.split([len(group) for group in inputs])
        parts = [
            torch.cat([first.unsqueeze(1).type_as(each), each.unflatten(0, group.shape)], dim=1).flatten(0, 1)
            for first, each, group in zip(firsts, embedded, inputs, strict=True)
        ]
        groups = [Rows(group.shape[0], group.shape[1] + 1) for group in inputs]
        wanted = _all_but_starts(groups, ids.device)
        states = self.decoder(torch.cat(parts), groups, is_causal=True, chosen=filled(wanted), cache=cache)
        return self.head(states)[: len(wanted)]


def _as_gpt(config: WordLatentConfig, shape: PartShape) -> GPTConfig:
    """Return a part's shape in the words that its blocks read."""
    shared = ("rope_theta", "norm", "hidden_act", "qk_norm", "use_bias", "initializer_range", "zero_init_projections")
    values: dict[str, Any] = {name: getattr(config, name) for name in shared}
    return GPTConfig(**shape.model_dump(), **values, positions="rope")


def block_mask(blocks: Tensor) -> Tensor:
    """Return where each word may look, (B, 1, W, W) bool: at itself and back, and all over its shift block."""
    same = (blocks.unsqueeze(2) == blocks.unsqueeze(1)) & (blocks >= 0).unsqueeze(2)
    causal = torch.ones(blocks.shape[1], blocks.shape[1], dtype=torch.bool, device=blocks.device).tril()
    return (same | causal).unsqueeze(1)


def _word_mask(is_real: Tensor | None) -> Tensor | None:
    """Return which places of words may be looked at, (n, 1, 1, L) bool; the first always, so that no row is empty."""
    if is_real is None:
        return None
    first = torch.arange(is_real.shape[1], device=is_real.device) == 0
    return (is_real | first).unsqueeze(1).unsqueeze(1)


def _row_starts(groups: Sequence[Rows], device: torch.device) -> Tensor:
    """Return the first place of every row."""
    starts, first = [], 0
    for rows in groups:
        starts.append(torch.arange(first, first + rows.places, rows.length, device=device))
        first += rows.places
    return torch.cat(starts)


def _all_but_starts(groups: Sequence[Rows], device: torch.device) -> Tensor:
    """Return every place that is not the first of its row."""
    places, first = [], 0
    for rows in groups:
        numbers = torch.arange(first, first + rows.places, device=device)
        places.append(numbers.view(rows.count, rows.length)[:, 1:].flatten())
        first += rows.places
    return torch.cat(places)
