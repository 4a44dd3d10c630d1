"""Ray Tune as the one who asks for the next job: searchers, trial schedulers, and the thin
trainable by which Tune gives a trial to a slot. How a job is carried out stands in components/jobs.
"""
