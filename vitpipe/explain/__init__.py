"""What models look at: attention, gradients, what the weights learned. Arrays come out; figures are drawn elsewhere.

Nothing here knows a task by name: `vitpipe.tasks.base.Task` says what explanations are about.
"""
