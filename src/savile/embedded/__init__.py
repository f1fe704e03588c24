"""The embedded base model in two sizes and its four business cases: data only."""
