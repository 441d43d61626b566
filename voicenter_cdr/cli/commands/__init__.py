"""Commands, one module each: a function and its examples."""
