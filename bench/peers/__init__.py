"""
The contenders beside rig, one program each: `PROGRAM URL MODE COUNT`.

A program connects, joins the topics, says `ready`, counts `COUNT` events, and prints what it saw as one line of JSON. It is
told on stdin when everything was sent, so that it does not wait for what it has lost. MODE is `flood` or `pace`.
"""
