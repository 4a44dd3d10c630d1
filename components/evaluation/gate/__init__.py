"""Is a challenger better than the champion, on documents that neither was chosen by? Plain numpy
and scipy: no torch, no store. `decision.decide` is the door; `settings` alone loads no scipy.
"""
