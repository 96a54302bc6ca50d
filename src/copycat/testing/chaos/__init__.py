"""Real servers and client processes under faults that come from outside them; what `copycat chaos` does.

`run` starts everything, lets `faults` befall it, heals it, and hands the history to `judge` and `timeline`. The servers
are the ones users run: nothing in them knows that it is being tested.
"""
