"""The tokenizer of `pocket`: byte-level BPE, so that any text survives, newlines and all."""

import json
from collections.abc import Iterable
from pathlib import Path

VOCABULARY = 4096
PAD, EOS, UNK = "<pad>", "</s>", "<unk>"
GAP_MARKS = [f"<extra_id_{i}>" for i in range(4)]


def make_tokenizer(texts: Iterable[str], folder: Path) -> None:
    """Learns the pieces from `texts` and saves a folder that `AutoTokenizer` reads.

    A space is put before every text, and taken off again in decoding, so that a name has the same
    pieces at the start of an answer as inside a passage: copying is then one step a piece. Digits
    stand alone, so that a number is read as it is written.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from tokenizers.processors import TemplateProcessing
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Prepend(" ")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    special = [PAD, EOS, UNK, *GAP_MARKS]
    tokenizer.train_from_iterator(
        texts,
        BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=[AddedToken(mark, normalized=False, special=True) for mark in special],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = TemplateProcessing(
        single=f"$A {EOS}", pair=f"$A {EOS} $B {EOS}", special_tokens=[(EOS, 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)


def keep_marks_as_text(folder: Path) -> None:
    """Has the saved tokenizer take `</s>` and its like in a text for text, as anyone may type it.

    The class is named as older transformers know it too.
    """
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("is_local", "local_files_only", "backend"):
        config.pop(key, None)
    config.update(split_special_tokens=True, tokenizer_class="PreTrainedTokenizerFast")
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
