"""What an operator watches: figures for Prometheus, and traces for OpenTelemetry. No label or attribute holds a value of a request.

figures.py      every figure: its name, kind and labels
board.py        the memory in which a worker writes its figures and its supervisor reads them
requests.py     counts requests
sampling.py     samples the pool, caches, queues and backlogs once a second
exposition.py   adds up the figures of the workers, in the format of Prometheus
traces.py       traces one request in so many
"""
