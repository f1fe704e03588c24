from savile.ladder.seeds import BITS, derive


def test_a_seed_depends_on_every_word_and_on_nothing_else() -> None:
    seeds = {derive(s, name, i) for s in range(3) for name in ("train", "delta") for i in range(3)}
    assert len(seeds) == 18
    assert derive(0, "train", 1) == derive(0, "train", 1)
    assert all(0 <= seed < 1 << BITS for seed in seeds)


def test_words_are_not_glued_together() -> None:
    assert derive(0, "ab", "c") != derive(0, "a", "bc")
