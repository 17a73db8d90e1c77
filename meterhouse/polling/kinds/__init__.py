"""Kinds of pollsters, one package each."""
