"""A model as judge of pairs of answers: its question, its verdicts, its biases, its obedience."""
