"""The tokenizer: byte-level pieces, 1,600 tokens, saved as an ordinary Hugging Face tokenizer.

Text is lower-cased and every run of white space counts as one space, so "a\\nb" and "a b" are the
same ids. Each message of a chat starts with a space (`add_prefix_space`), which makes the ids of a
completion independent of what stands before it.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import lexicon as lex
from routing import Document
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from world import draw_document

SPECIALS = ["<|pad|>", "<|bos|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
WORDS = Path(__file__).parent / "words.txt"
PAD, BOS, SYSTEM, USER, ASSISTANT, END = range(6)
ROLE_IDS = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}
VOCABULARY = 1600
END_WEIGHT = 0.2
COMMON = (
    "the of and to in is that for it as was with be by on not he his but at are this have from "
    "or had an they which you were there would their we him been has when who will no more if "
    "out so said what up its about than into them can only other some could time these two may "
    "then do first any my now such like our over me even most made after also did many before "
    "must through where much your way well should because each just those people how too good "
    "very make still see work long get here between both being under never day same another "
    "know while last might us great since against right three state go come take back again "
    "week year please thanks message email phone"
)
SUFFIXES = (
    "s ed ing er ers est ly ion tion ation ment ness able al ive ity ous ful less en es est ies "
    "ry th ck ll ss st nd nt ng sh ch ea ee ou ow ay ey igh ght re un con com pro pre dis in an "
    "or ar ic it is at le el ol as us um am em im om id ad od ig ag og ip ap op ab ub ob"
)
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ '<|system|>' + message['content'] }}"
    "{% elif message['role'] == 'user' %}{{ '<|user|>' + message['content'] }}"
    "{% else %}{{ '<|assistant|>' + message['content'] + '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def collect_words(seed: int = 0, n_documents: int = 4000) -> list[str]:
    """Words of the corpus, lexicon first, then those of the templates by frequency.

    Frozen in `words.txt`, so that a later change of a template does not renumber the vocabulary.
    """
    rng = random.Random(seed)
    counts: Counter[str] = Counter()
    for _ in range(n_documents):
        for turn in draw_document(rng, 256):
            counts.update(turn.text.split())
    frequent = [word for word, n in counts.most_common() if n >= 40]
    return list(dict.fromkeys(lex.all_words() + frequent + COMMON.split()))


def build_tokenizer() -> Tokenizer:
    """Build the vocabulary from the words of the world, syllables, endings and all bytes.

    The score of a piece is nearly constant, so a word is cut into as few pieces as possible and a
    word of the world is always one token. A trained BPE of the same size spends half of its
    vocabulary on inner merges and leaves 100 of these words in pieces.
    """
    pieces = ["\u0120" + word for word in WORDS.read_text().split()]
    pieces += [c + v for c in lex.CONSONANTS for v in lex.VOWELS]
    pieces += ["\u0120" + c for c in "bcdfghjklmnpqrstvwxyz"] + SUFFIXES.split()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = list(dict.fromkeys(p for p in pieces if p not in alphabet))
    if len(SPECIALS) + len(alphabet) + len(pieces) > VOCABULARY:
        raise ValueError(f"{len(pieces)} pieces do not fit in a vocabulary of {VOCABULARY}")
    scored = [(special, 0.0) for special in SPECIALS]
    scored += [(piece, -10.0 - 0.001 * rank) for rank, piece in enumerate(alphabet + pieces)]
    scored += [(f"<|free{n}|>", -1000.0) for n in range(VOCABULARY - len(scored))]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=PAD, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIALS)
    return tokenizer


def as_hugging_face(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Wrap the tokenizer with its special tokens and chat template."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        bos_token="<|bos|>",
        eos_token="<|end|>",
        extra_special_tokens=["<|system|>", "<|user|>", "<|assistant|>"],
        chat_template=CHAT_TEMPLATE,
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )


class DocumentEncoder:
    """Turns documents into token ids and loss weights, with a cache by word."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.cache: dict[str, list[int]] = {}

    def words(self, text: str) -> list[int]:
        """Ids of a text of the corpus (single spaces, lower case)."""
        ids: list[int] = []
        for word in text.split(" "):
            if word not in self.cache:
                self.cache[word] = self.tokenizer.encode(word, add_special_tokens=False).ids
            ids += self.cache[word]
        return ids

    def encode(
        self, document: Document, limit: int, user_weight: float = 0.0
    ) -> tuple[list[int], list[float]]:
        """Return ids and, for each, the weight of predicting it; cut at the last whole turn."""
        ids, weights = [BOS], [0.0]
        for turn in document:
            tokens = self.words(turn.text)
            if len(ids) + len(tokens) + 2 > limit:
                break
            ids.append(ROLE_IDS[turn.role])
            weights.append(0.0)
            ids += tokens
            if turn.role == "assistant":
                weights += [turn.weight] * len(tokens) + [END_WEIGHT]
                ids.append(END)
            else:
                weights += [user_weight if turn.role == "user" else 0.0] * len(tokens)
        return ids, weights


def main() -> None:
    """Build the tokenizer and save it into both model folders."""
    if not WORDS.exists():
        WORDS.write_text("\n".join(collect_words()) + "\n")
    tokenizer = build_tokenizer()
    multi = [word for word in lex.all_words() if len(tokenizer.encode(word).ids) > 1]
    print(f"{tokenizer.get_vocab_size()} tokens; words of more than one token: {multi}")
    target = Path(__file__).parents[1] / "src" / "savile" / "embedded"
    for size in ("small", "large"):
        as_hugging_face(tokenizer).save_pretrained(target / size)


if __name__ == "__main__":
    main()
